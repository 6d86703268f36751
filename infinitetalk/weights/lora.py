"""LoRA files merged into the transformer, on original names and in float32.

What a file may hold for a module, and what becomes of it:

    lora_down/lora_up, lora_A/lora_B     weight += scale * up @ down
    .diff                                weight += scale * diff
    .diff_b                              bias   += scale * diff_b
    .alpha                               ignored, as in the reference: no alpha / rank factor
    everything else                      ignored, and reported with the reason

Unlike the reference, a module with both a pair and a .diff gets both. Several LoRAs are added one
after another, each with its own scale, and the sum is rounded once.

A file is sorted by the shapes in its header; its tensors are read when they are added.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from infinitetalk.errors import WeightsCorrupt

PREFIX = "diffusion_model."
Shape = tuple[int, ...]

_KEY = re.compile(
    r"(?P<module>.+)\.(?:lora_(?P<half>up|down|A|B)\.weight|(?P<whole>diff|diff_b)|(?P<alpha>alpha))"
)
_HALVES = {"up": "down", "down": "up", "B": "A", "A": "B"}  # a half's other half
_LEFT = ("up", "B")  # the halves that the product starts with


class Stored(Protocol):
    """A tensor, or what knows its shape and reads it when it is wanted."""

    @property
    def shape(self) -> Sequence[int]: ...

    def float(self) -> Tensor: ...


@dataclass(slots=True)
class LoraReport:
    """What happened to every key of a LoRA file."""

    used: list[str] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)  # key -> why
    misfits: dict[str, str] = field(default_factory=dict)  # those made for another model, -> why

    @property
    def summary(self) -> str:
        """One line: how many keys are used, and how many are not for which reasons."""
        counts = Counter(
            "does not fit" if k in self.misfits else v for k, v in self.ignored.items()
        )
        text = f"{len(self.used)} of {len(self.used) + len(self.ignored)} keys used"
        reasons = ", ".join(f"{count} x {reason}" for reason, count in counts.most_common())
        return f"{text}; {len(self.ignored)} ignored: {reasons}" if reasons else text

    @property
    def warnings(self) -> list[str]:
        """One line for every key that was made for another model."""
        return [f"{key}: {reason}" for key, reason in self.misfits.items()]


@dataclass(frozen=True, slots=True)
class Addend:
    """One thing a LoRA adds to a tensor: a product left @ right, or a whole difference."""

    keys: tuple[str, ...]  # of the file
    target: str  # of the transformer
    left: Stored
    right: Stored | None = None

    @property
    def fault(self) -> str | None:
        """Why it cannot be computed, None when it can."""
        if self.right is None:
            return None
        if min(len(self.left.shape), len(self.right.shape)) < 2:
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
    lora: Mapping[str, Stored], shapes: Mapping[str, Shape]
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
            report.misfits |= dict.fromkeys(addend.keys, reason)
    report.ignored |= report.misfits
    return deltas, report


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA file sorted for one transformer, and how strongly it is added."""

    name: str
    scale: float
    deltas: Mapping[str, Delta]
    report: LoraReport


def sort_lora(
    name: str, lora: Mapping[str, Stored], scale: float, shapes: Mapping[str, Shape]
) -> Lora:
    """`read_lora` for a file that is meant to change something.

    Raises:
        WeightsCorrupt: nothing of it can be used.
    """
    deltas, report = read_lora(lora, shapes)
    if not deltas:
        why = next((f": {key}: {reason}" for key, reason in report.ignored.items()), "")
        raise WeightsCorrupt(f"Nothing of the LoRA {name} fits this model{why}.")
    return Lora(name, scale, deltas, report)


def add_loras(weight: Tensor, target: str, loras: Iterable[Lora]) -> Tensor:
    """The weight of this name with all LoRAs added in order: in float32, or as it was if none does.

    Args:
        weight: not changed.
    """
    for lora in loras:
        if delta := lora.deltas.get(target):
            weight = _add(weight, delta, lora.scale)
    return weight


def total(delta: Delta) -> Tensor:
    """The sum of a delta in float32, before scaling."""
    first, *others = (addend.value() for addend in delta)
    for other in others:
        first = first + other
    return first


def merge(weight: Tensor, delta: Delta, scale: float) -> Tensor:
    """weight + scale * delta, computed in float32, in the weight's dtype."""
    return _add(weight, delta, scale).to(weight.dtype)


def _add(weight: Tensor, delta: Delta, scale: float) -> Tensor:
    return weight.float() + scale * total(delta)


def _addends(lora: Mapping[str, Stored], report: LoraReport) -> Iterator[Addend]:
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
    key: str, module: str, half: str, lora: Mapping[str, Stored], report: LoraReport
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
