"""Every attention backend of a device at the shape of the model's self-attention.

Measures and recommends; which backend a deployment uses is the setting `attention`.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from infinitetalk.acceptance.device_clock import Clock
from infinitetalk.acceptance.report import Figure, Trial, Verdict
from infinitetalk.conditioning import Size, latent_size
from infinitetalk.models.attention import BACKENDS, Attention, sdpa, unavailable_reason
from infinitetalk.models.transformer import InfiniteTalkTransformer

RUNS = 3  # the fastest counts
EXACT_ENOUGH = 0.05  # relative error; rounding to bfloat16 alone gives about 0.003


@dataclass(frozen=True, slots=True)
class Trials:
    """What was tried, what the deployment uses, and the fastest that is exact enough."""

    rows: tuple[Trial, ...]
    in_use: str
    choice: str | None

    @property
    def verdict(self) -> Verdict:
        """Whether the backend in use computes what it should, and what is faster."""
        row = next(row for row in self.rows if row.backend == self.in_use)
        error = row.relative_error
        found = row.note if error is None else f"is off by {error:.2g}"
        detail = f"{self.in_use} is in use and {found} (at most {EXACT_ENOUGH:g})"
        if self.choice not in (None, self.in_use):
            detail += f"; INFINITETALK_ATTENTION={self.choice} is faster"
        return Verdict(error is not None and error <= EXACT_ENOUGH, detail)

    @property
    def figures(self) -> tuple[Figure, ...]:
        return ()  # the rows are a table of their own


@torch.inference_mode()
def attention_trial(
    network: InfiniteTalkTransformer,
    frames: int,
    size: Size,
    in_use: str,
    clock: Clock,
    backends: Mapping[str, Attention] = BACKENDS,
) -> Trials:
    """Try every backend on the same random queries, keys and values.

    Args:
        frames: of the window.
        size: of the video in pixels, (height, width).
        in_use: the backend of the deployment.
        clock: waits for the device.
    """
    qkv = _inputs(network, frames, size)
    reference = sdpa(*(x.float() for x in qkv))
    rows = tuple(_try(name, backends[name], qkv, reference, clock) for name in backends)
    return Trials(rows, in_use, _fastest(rows))


def _inputs(network: InfiniteTalkTransformer, frames: int, size: Size) -> tuple[Tensor, ...]:
    """q, k, v: b n h d."""
    t, h, w = network.token_grid(latent_size(frames, size))
    shape = (1, t * h * w, network.config.heads, network.config.head_dim)
    device = network.patch_embedding.weight.device
    return tuple(torch.randn(shape, device=device, dtype=network.dtype) for _ in range(3))


def _try(
    name: str, backend: Attention, qkv: tuple[Tensor, ...], reference: Tensor, clock: Clock
) -> Trial:
    try:
        out = backend(*qkv)  # the first call may compile
        seconds = min(_seconds(backend, qkv, clock) for _ in range(RUNS))
    except Exception as failure:  # packages raise what they like where they do not fit
        reason = unavailable_reason(name, reference.device)
        return Trial(name, note=reason or f"does not run here: {type(failure).__name__}")
    error = float((out.float() - reference).norm() / reference.norm())
    if not math.isfinite(error):
        return Trial(name, seconds, note="gives values that are no numbers")
    return Trial(name, seconds, error)


def _seconds(backend: Attention, qkv: tuple[Tensor, ...], clock: Clock) -> float:
    began = clock()
    backend(*qkv)
    return clock() - began


def _fastest(rows: Iterable[Trial]) -> str | None:
    """The fastest that is exact enough."""
    timed = [
        (row.seconds, row.backend)
        for row in rows
        if row.seconds is not None
        and row.relative_error is not None
        and row.relative_error <= EXACT_ENOUGH
    ]
    return min(timed)[1] if timed else None
