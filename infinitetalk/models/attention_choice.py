"""Which attention backend to take on this GPU: measured once, then read from a file.

Every backend that can run here is timed at the real number of tokens, and its result compared with
float32. An exact one is taken if it is the fastest; one in 8 bits only if it is a fifth faster than
that and close enough. The file is a cache: what cannot be read in it is measured again.
"""

import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from infinitetalk.models.attention import BACKENDS, Attention, unavailable_reason
from infinitetalk.models.attention_inputs import exact_rows, realistic_inputs

log = logging.getLogger(__name__)

APPROXIMATE = frozenset({"sage", "eight_bit"})
"""Backends that round to 8 bits."""

MIN_SPEEDUP = 1.2  # over the fastest exact backend, for an approximate one to be taken
MAX_ERROR = {True: 0.02, False: 0.005}
"""Relative error (norm) against float32; by whether the backend is approximate."""

FORMAT = 1
_ROWS = 64  # queries whose result is compared
_REPETITIONS = 3

Clock = Callable[[Callable[[], object]], float]
"""Milliseconds that a call takes on the device."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a choice is made for."""

    gpu: str
    torch: str
    engine: str
    tokens: int
    heads: int
    head_dim: int

    @property
    def key(self) -> str:
        """Numbers of tokens up to the same power of two share a choice."""
        up_to = 1 << (self.tokens - 1).bit_length()
        shape = f"{up_to} x {self.heads} x {self.head_dim}"
        return f"{self.gpu}, torch {self.torch}, {self.engine}, {shape}"


@dataclass(frozen=True, slots=True)
class Trial:
    """How one backend did."""

    name: str
    milliseconds: float | None = None
    error: float | None = None
    refusal: str | None = None  # why it is not taken, whatever its speed

    def __str__(self) -> str:
        if self.milliseconds is None or self.error is None:
            return f"{self.name}: {self.refusal}"
        told = f"{self.name} {self.milliseconds:.1f} ms, error {100 * self.error:.2f} %"
        return told if self.refusal is None else f"{told} ({self.refusal})"


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend to take, and what it was chosen from."""

    name: str
    trials: tuple[Trial, ...]

    def __str__(self) -> str:
        return f"{self.name} ({'; '.join(map(str, self.trials))})"


def choose_attention(case: Case, file: Path, measure: Callable[[], Sequence[Trial]]) -> Choice:
    """The choice for this case, from the file or else by measuring; only then it says so."""
    choices = read_choices(file)
    if case.key in choices:
        return choices[case.key]
    trials = tuple(measure())
    choice = Choice(best_of(trials), trials)
    log.info("Attention of %d tokens on %s: %s", case.tokens, case.gpu, choice)
    _write(file, {**choices, case.key: choice})
    return choice


def best_of(trials: Sequence[Trial]) -> str:
    """The fastest exact backend, or an approximate one that is faster by enough."""
    times = {t.name: t.milliseconds for t in trials if t.milliseconds and t.refusal is None}
    exact = {name: time for name, time in times.items() if name not in APPROXIMATE}
    best = min(exact, key=exact.__getitem__, default="sdpa")
    limit = exact.get(best, math.inf) / MIN_SPEEDUP
    faster = {name: time for name, time in times.items() if name in APPROXIMATE and time <= limit}
    return min(faster, key=faster.__getitem__, default=best)


def try_backends(
    grid: tuple[int, int, int],
    heads: int,
    head_dim: int,
    device: torch.device,
    clock: Clock,
    candidates: Mapping[str, Attention] = BACKENDS,
) -> list[Trial]:
    """Time every backend on a video of this grid of tokens, and compare it with float32.

    With all heads: with a fifth of them it takes more than a fifth of the time, by how much
    depends on the backend.
    """
    generator = torch.Generator(device).manual_seed(0)
    with torch.inference_mode():
        inputs = realistic_inputs(grid, heads, head_dim, generator)
        rows = torch.randint(math.prod(grid), (_ROWS,), generator=generator, device=device)
        truth = exact_rows(*inputs, rows)
        return [
            _try(name, function, inputs, rows, truth, clock)
            for name, function in candidates.items()
        ]


def _try(
    name: str,
    function: Attention,
    inputs: tuple[Tensor, Tensor, Tensor],
    rows: Tensor,
    truth: Tensor,
    clock: Clock,
) -> Trial:
    reason = unavailable_reason(name, truth.device) if name in BACKENDS else None
    if reason is not None:
        return Trial(name, refusal=reason)
    try:
        result = function(*inputs)[:, rows].float()
        times = sorted(clock(lambda: function(*inputs)) for _ in range(_REPETITIONS))
    except Exception as problem:  # whatever a kernel, a driver or a compiler says
        log.debug("The attention backend %s failed.", name, exc_info=True)
        return Trial(name, refusal=f"fails with {type(problem).__name__}")
    error = float((result - truth).norm() / truth.norm())
    if not math.isfinite(error):
        return Trial(name, refusal="gives values that are not finite")
    refusal = None if error <= MAX_ERROR[name in APPROXIMATE] else "too far from float32"
    return Trial(name, times[len(times) // 2], error, refusal)


def cuda_clock(call: Callable[[], object]) -> float:
    """Milliseconds by the events of the current CUDA stream."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def read_choices(file: Path) -> dict[str, Choice]:
    """By key; nothing where there is no file, or one of another format."""
    try:
        content = json.loads(file.read_text())
        if content["format"] != FORMAT:
            return {}
        return {
            key: Choice(entry["name"], tuple(Trial(**trial) for trial in entry["trials"]))
            for key, entry in content["choices"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(file: Path, choices: Mapping[str, Choice]) -> None:
    """All or nothing; another process may do the same at the same time."""
    content = {"format": FORMAT, "choices": {key: asdict(c) for key, c in choices.items()}}
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content, indent=1))
        part.replace(file)
    except OSError as problem:
        log.warning("The choice of attention could not be kept: %s", problem.strerror)
