"""LoRA files merged into the transformer, on original names and in float32.

What a file may hold for a module, and what becomes of it:

    lora_down/lora_up, lora_A/lora_B     weight += scale * up @ down
    .diff                                weight += scale * diff
    .diff_b                              bias   += scale * diff_b
    .alpha                               ignored, as in the reference: no alpha / rank factor
    everything else                      ignored, and reported with the reason

Unlike the reference, a module with both a pair and a .diff gets both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

PREFIX = "diffusion_model."
_DOWN = ("lora_down.weight", "lora_A.weight")
_UP = ("lora_up.weight", "lora_B.weight")


@dataclass(slots=True)
class LoraReport:
    """What happened to every key of a LoRA file."""

    used: list[str] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)  # key -> why


@dataclass(frozen=True, slots=True)
class Delta:
    """What a LoRA adds to one tensor, before scaling."""

    pairs: tuple[tuple[Tensor, Tensor], ...] = ()  # (up, down)
    differences: tuple[Tensor, ...] = ()

    def total(self) -> Tensor:
        """The sum in float32."""
        parts = [up.float().flatten(1) @ down.float().flatten(1) for up, down in self.pairs]
        parts += [difference.float() for difference in self.differences]
        total = parts[0]
        for part in parts[1:]:
            total = total + part.reshape(total.shape)
        return total


def read_lora(
    lora: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Delta], LoraReport]:
    """Sort a LoRA file by the tensors it changes.

    Args:
        lora: the file's tensors.
        shapes: shapes of the transformer's tensors under original names.

    Returns:
        Delta for every tensor that changes, and what was used and ignored.
    """
    report = LoraReport()
    deltas: dict[str, Delta] = {}
    for key, tensor in lora.items():
        if not key.startswith(PREFIX):
            report.ignored[key] = f"no {PREFIX} prefix"
            continue
        _read_key(key, tensor, lora, shapes, deltas, report)
    return deltas, report


def merge(weight: Tensor, delta: Delta, scale: float) -> Tensor:
    """weight + scale * delta, computed in float32, in the weight's dtype and shape."""
    return (weight.float() + scale * delta.total().reshape(weight.shape)).to(weight.dtype)


def _read_key(
    key: str,
    tensor: Tensor,
    lora: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    deltas: dict[str, Delta],
    report: LoraReport,
) -> None:
    name = key.removeprefix(PREFIX)
    for up, down in zip(_UP, _DOWN, strict=True):
        if name.endswith(up):
            _read_pair(key, key.removesuffix(up) + down, tensor, lora, shapes, deltas, report)
            return
        if name.endswith(down):
            if key.removesuffix(down) + up not in lora:
                report.ignored[key] = "its other half is missing"
            return  # used, or ignored, together with its other half
    for suffix, parameter in ((".diff", ".weight"), (".diff_b", ".bias")):
        if name.endswith(suffix):
            target = name.removesuffix(suffix) + parameter
            _add(target, key, (), (tensor,), tuple(tensor.shape), shapes, deltas, report)
            return
    report.ignored[key] = "alpha has no effect" if name.endswith(".alpha") else "unknown kind"


def _read_pair(
    up_key: str,
    down_key: str,
    up: Tensor,
    lora: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    deltas: dict[str, Delta],
    report: LoraReport,
) -> None:
    if down_key not in lora:
        report.ignored[up_key] = "its other half is missing"
        return
    down = lora[down_key]
    stem = up_key.removeprefix(PREFIX)
    target = stem[: stem.rindex(".lora_")] + ".weight"
    shape = (up.shape[0], *down.shape[1:])
    if up.shape[1] != down.shape[0]:
        shape = ()
    if _add(target, up_key, ((up, down),), (), shape, shapes, deltas, report):
        report.used.append(down_key)
    else:
        report.ignored[down_key] = report.ignored[up_key]


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Files write a matrix as a 1x1 convolution and the other way round; rows stay rows."""
    return shape[:1] == wanted[:1] and torch.Size(shape).numel() == torch.Size(wanted).numel()


def _add(
    target: str,
    key: str,
    pairs: tuple[tuple[Tensor, Tensor], ...],
    differences: tuple[Tensor, ...],
    shape: tuple[int, ...],
    shapes: Mapping[str, tuple[int, ...]],
    deltas: dict[str, Delta],
    report: LoraReport,
) -> bool:
    if target not in shapes:
        report.ignored[key] = f"the model has no {target}"
        return False
    if not _fits(shape, shapes[target]):
        report.ignored[key] = f"shape {list(shape)} does not fit {list(shapes[target])}"
        return False
    before = deltas.get(target, Delta())
    deltas[target] = Delta(before.pairs + pairs, before.differences + differences)
    report.used.append(key)
    return True
