"""LoRA files merged into the transformer, on original names and in float32.

What a file may hold for a module, and what becomes of it:

    lora_down/lora_up, lora_A/lora_B     weight += scale * up @ down
    .diff                                weight += scale * diff
    .diff_b                              bias   += scale * diff_b
    .alpha                               ignored, as in the reference: no alpha / rank factor
    everything else                      ignored, and reported with the reason

Unlike the reference, a module with both a pair and a .diff gets both.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

PREFIX = "diffusion_model."
Shape = tuple[int, ...]

_KEY = re.compile(
    r"(?P<module>.+)\.(?:lora_(?P<half>up|down|A|B)\.weight|(?P<whole>diff|diff_b)|(?P<alpha>alpha))"
)
_HALVES = {"up": "down", "down": "up", "B": "A", "A": "B"}  # a half's other half
_LEFT = ("up", "B")  # the halves that the product starts with


@dataclass(slots=True)
class LoraReport:
    """What happened to every key of a LoRA file."""

    used: list[str] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)  # key -> why


@dataclass(frozen=True, slots=True)
class Addend:
    """One thing a LoRA adds to a tensor: a product left @ right, or a whole difference."""

    keys: tuple[str, ...]  # of the file
    target: str  # of the transformer
    left: Tensor
    right: Tensor | None = None

    @property
    def fault(self) -> str | None:
        """Why it cannot be computed, None when it can."""
        if self.right is None:
            return None
        if min(self.left.dim(), self.right.dim()) < 2:
            return "a half is no matrix"
        if self.left.shape[1] != self.right.shape[0]:
            return f"ranks {self.left.shape[1]} and {self.right.shape[0]} differ"
        return None

    @property
    def shape(self) -> Shape:
        if self.right is None:
            return tuple(self.left.shape)
        return (self.left.shape[0], *self.right.shape[1:])

    def value(self) -> Tensor:
        """In float32."""
        if self.right is None:
            return self.left.float()
        return (self.left.float().flatten(1) @ self.right.float().flatten(1)).reshape(self.shape)


Delta = tuple[Addend, ...]
"""All that a LoRA adds to one tensor."""


def read_lora(
    lora: Mapping[str, Tensor], shapes: Mapping[str, Shape]
) -> tuple[dict[str, Delta], LoraReport]:
    """Sort a LoRA file by the tensors it changes.

    Args:
        lora: the file's tensors.
        shapes: shapes of the transformer's tensors under original names.

    Returns:
        What is added to every tensor that changes, and what was used and ignored.
    """
    report = LoraReport()
    deltas: dict[str, Delta] = {}
    for addend in _addends(lora, report):
        reason = addend.fault or _misfit(addend, shapes)
        if reason is None:
            deltas[addend.target] = (*deltas.get(addend.target, ()), addend)
            report.used += addend.keys
        else:
            report.ignored |= dict.fromkeys(addend.keys, reason)
    return deltas, report


def total(delta: Delta) -> Tensor:
    """The sum of a delta in float32, before scaling."""
    first, *others = (addend.value() for addend in delta)
    for other in others:
        first = first + other
    return first


def merge(weight: Tensor, delta: Delta, scale: float) -> Tensor:
    """weight + scale * delta, computed in float32, in the weight's dtype."""
    return (weight.float() + scale * total(delta)).to(weight.dtype)


def _addends(lora: Mapping[str, Tensor], report: LoraReport) -> Iterator[Addend]:
    """Everything the file could add; keys that add nothing go to the report."""
    for key, tensor in lora.items():
        match = _KEY.fullmatch(key.removeprefix(PREFIX))
        if not key.startswith(PREFIX):
            report.ignored[key] = f"no {PREFIX} prefix"
        elif match is None:
            report.ignored[key] = "unknown kind"
        elif match["alpha"]:
            report.ignored[key] = "alpha has no effect"
        elif match["whole"]:
            parameter = "weight" if match["whole"] == "diff" else "bias"
            yield Addend((key,), f"{match['module']}.{parameter}", tensor)
        else:
            yield from _product(key, match["module"], match["half"], lora, report)


def _product(
    key: str, module: str, half: str, lora: Mapping[str, Tensor], report: LoraReport
) -> Iterator[Addend]:
    """The product of a pair, yielded when its left half comes up."""
    other = f"{PREFIX}{module}.lora_{_HALVES[half]}.weight"
    if other not in lora:
        report.ignored[key] = "its other half is missing"
    elif half in _LEFT:
        yield Addend((key, other), f"{module}.weight", lora[key], lora[other])


def _misfit(addend: Addend, shapes: Mapping[str, Shape]) -> str | None:
    if addend.target not in shapes:
        return f"the model has no {addend.target}"
    if addend.shape != shapes[addend.target]:
        return f"shape {list(addend.shape)} does not fit {list(shapes[addend.target])}"
    return None
