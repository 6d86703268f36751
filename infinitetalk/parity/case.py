"""A golden case on disk, and the comparison of one output with it."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from infinitetalk.parity.tolerance import tolerance_of


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison: an error and what it may be; None when there is no limit at this dtype."""

    output: str
    error: float
    limit: float | None

    @property
    def passed(self) -> bool:
        if math.isnan(self.error):
            return False
        return self.limit is None or self.error <= self.limit

    @property
    def severity(self) -> float:
        """How close the error is to its limit; above 1 fails."""
        if self.limit is None or (self.error == 0 and self.limit == 0):
            return 0.0
        if math.isnan(self.error) or self.limit == 0:
            return float("inf")
        return self.error / self.limit


@dataclass(slots=True)
class Case:
    """A `case_*` folder and where to run it."""

    folder: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    info: dict[str, Any] = field(init=False)
    weights: dict[str, Tensor] = field(init=False)  # as stored, most in bfloat16
    inputs: dict[str, Tensor] = field(init=False)  # floats upcast to float32
    outputs: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.info = json.loads((self.folder / "case.json").read_text())
        self.weights = self._load("weights")
        self.inputs = {key: _upcast(t) for key, t in self._load("inputs").items()}
        self.outputs = self._load("outputs")

    @property
    def kind(self) -> str:
        return str(self.info["case"])

    def _load(self, role: str) -> dict[str, Tensor]:
        name = self.info["files"].get(role)
        return {} if name is None else load_file(self.folder / name)

    def compare(self, output: str, value: Tensor, golden: Tensor | None = None) -> Iterator[Check]:
        """Checks of one output: by default against the golden value of that name."""
        golden = self.outputs[output] if golden is None else golden
        tolerance = tolerance_of(self.kind, output)
        value, golden = value.detach().double().cpu(), golden.double()
        if value.shape != golden.shape:
            yield Check(f"{output} (shape {list(value.shape)})", float("inf"), 0.0)
            return
        if self.dtype != torch.float32:
            error = (value - golden).norm() / golden.norm().clamp(min=1e-12)
            yield Check(output, float(error), tolerance.bfloat16)
            return
        difference = (value - golden).abs()
        if tolerance.max_abs is not None:
            yield Check(output, _largest(difference), tolerance.max_abs)
        if tolerance.mean_abs is not None:
            yield Check(f"{output} (mean)", float(difference.mean()), tolerance.mean_abs)
        if tolerance.relative is not None:
            scale = max(_largest(golden.abs()), 1e-12)
            yield Check(output, _largest(difference) / scale, tolerance.relative)

    def compare_present(self, values: Iterable[tuple[str, Tensor]]) -> Iterator[Check]:
        """Checks of the outputs that this (perhaps thinned) case stores."""
        for output, value in values:
            if output in self.outputs:
                yield from self.compare(output, value)

    def agree(self, output: str, is_equal: bool) -> Check:
        """A check of something that is right or wrong."""
        return Check(output, 0.0 if is_equal else 1.0, 0.0)


def _upcast(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _largest(values: Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0
