"""One network from its original files: which tensors its prepared file holds, and how each is made.

A prepared file has the original names and only the keys that the network needs, in an order that is
good for loading: module by module, and the query, key and value of an attention next to each other,
so that the three can be read as one tensor.

Tensors are read one by one when they are made, and nothing is kept but a few scales.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from infinitetalk.errors import WeightsCorrupt
from infinitetalk.weights.convert import (
    COMPONENTS,
    SCALE,
    build,
    float8_keys,
    require_fit,
    sources,
)
from infinitetalk.weights.lora import add_loras, sort_lora
from infinitetalk.weights.prepared import FP8
from infinitetalk.weights.quantize import is_quantized, quantize_rows
from infinitetalk.weights.recipe import LoraFile, Recipe, SourceFile
from infinitetalk.weights.tensor_file import Tensors, open_tensors, overlay
from infinitetalk.weights.tensor_writer import PlannedTensor

TRANSFORMER = "transformer"
# Where both parts hold a key the later one counts, as in the reference.
PARTS: Mapping[str, tuple[str, ...]] = {TRANSFORMER: ("base", "audio")}
# The large networks run in bfloat16. The small ones are sensitive and stored as they run best.
DTYPES: Mapping[str, torch.dtype] = {
    TRANSFORMER: torch.bfloat16,
    "vae": torch.float32,
    "text_encoder": torch.bfloat16,
    "image_encoder": torch.float16,
    "audio_encoder": torch.float32,
}
_KINDS = ("weight", "weight" + SCALE)  # parameters of a module that come before its others


class Packer:
    """Makes the tensors of one prepared file; `plan` has their names in the order of the file."""

    def __init__(
        self,
        name: str,
        config: Any,
        layers: Sequence[Tensors],
        loras: Sequence[tuple[LoraFile, Tensors]] = (),
        *,
        is_fp8: bool = False,
    ) -> None:
        """Look at the headers alone.

        Args:
            layers: where several hold a key, the last one counts.

        Raises:
            WeightsCorrupt: a key is missing, unknown, of another shape or quantised already, or a
                LoRA has nothing for this network.
        """
        self._tensors = tensors = overlay(layers)
        self.component, self._is_fp8 = name, is_fp8
        self._stored = _canonical_keys(name, tensors)
        self._scales: dict[str, Tensor] = {}
        shapes = {key: tensors.entries[stored].shape for key, stored in self._stored.items()}
        self._refuse_quantized(sorted(float8_keys(tensors.entries)))
        require_fit(name, config, shapes)
        needed = _needed_keys(name, config)
        self._refuse_quantized(key for key in needed if not self._is_floating(key))
        self.replaced = _held_twice(layers)
        self.unused = sorted(self._stored.keys() - needed)
        self.loras = [
            sort_lora(lora.file.name, stored.lazy(), lora.scale, shapes) for lora, stored in loras
        ]
        self.plan = in_loading_order(
            [planned for key in needed for planned in self._planned(key, shapes[key])]
        )

    def make(self, key: str) -> Tensor:
        """A tensor of the plan: the original, LoRAs added in float32, rounded once."""
        weight = key.removesuffix(SCALE)
        if not self._is_quantized(weight):
            return self._merged(key).to(DTYPES[self.component])
        if key == weight:
            values, self._scales[key] = quantize_rows(self._merged(key).float())
            return values
        if weight not in self._scales:  # a process that was killed wrote the weight
            self.make(weight)
        return self._scales.pop(weight)

    def _refuse_quantized(self, keys: Iterable[str]) -> None:
        """Weights that somebody has quantised mean nothing by themselves."""
        for key in keys:
            raise WeightsCorrupt(f"The weights of {self.component} are quantised already: {key}.")

    def _is_floating(self, key: str) -> bool:
        return self._tensors.entries[self._stored[key]].dtype.is_floating_point

    def _merged(self, key: str) -> Tensor:
        return add_loras(self._tensors.read(self._stored[key]), key, self.loras)

    def _planned(self, key: str, shape: tuple[int, ...]) -> Iterator[PlannedTensor]:
        if self._is_quantized(key):
            yield PlannedTensor(key, torch.float8_e4m3fn, shape)
            yield PlannedTensor(key + SCALE, torch.float32, shape[:1])
        else:
            yield PlannedTensor(key, DTYPES[self.component], shape)

    def _is_quantized(self, key: str) -> bool:
        return self._is_fp8 and is_quantized(key, self.component)


@contextmanager
def open_packer(recipe: Recipe, name: str) -> Iterator[Packer]:
    """The packer of one network of a recipe, whose files are open inside the block.

    Raises:
        SourceFileMissing: a file is not there.
        WeightsCorrupt: a file is unreadable, or what they hold does not fit; see `Packer`.
    """
    is_transformer = name == TRANSFORMER
    with ExitStack() as stack:
        parts = PARTS.get(name, (name,))
        layers = [stack.enter_context(_opened(recipe.files(part))) for part in parts]
        loras = [
            (lora, stack.enter_context(_opened([lora.file])))
            for lora in (recipe.loras if is_transformer else ())
        ]
        is_fp8 = is_transformer and recipe.precision == FP8
        config = getattr(recipe.sizes, name)
        yield Packer(name, config, layers, loras, is_fp8=is_fp8)


def in_loading_order(plan: Sequence[PlannedTensor]) -> list[PlannedTensor]:
    """Modules in their order; of q, k and v first the weights, then the scales, then the biases."""
    groups: dict[str, int] = {}

    def rank(place: int, name: str) -> tuple[int, int, int]:
        module, _, kind = name.rpartition(".")
        group = re.sub(r"\.[qkv](_img|_proj)?$", r".qkv\1", module)
        first = groups.setdefault(group, place)
        return first, _KINDS.index(kind) if kind in _KINDS else len(_KINDS), place

    ranked = [(rank(place, planned.name), planned) for place, planned in enumerate(plan)]
    return [planned for _, planned in sorted(ranked, key=lambda pair: pair[0])]


def _opened(files: Sequence[SourceFile]) -> AbstractContextManager[Tensors]:
    return open_tensors((file.local, file.path) for file in files)


def _canonical_keys(name: str, tensors: Tensors) -> dict[str, str]:
    """The canonical name of every key, with the key."""
    canonical = COMPONENTS[name].canonical
    keys = [(canonical(key), key) for key in tensors.entries]
    if twice := _repeated(key for key, _ in keys):
        raise WeightsCorrupt(f"The weights of {name} hold {twice[0]} twice, under two names.")
    return dict(keys)


def _held_twice(layers: Sequence[Tensors]) -> list[str]:
    return _repeated(key for layer in layers for key in layer.entries)


def _repeated(keys: Iterable[str]) -> list[str]:
    return sorted(key for key, count in Counter(keys).items() if count > 1)


def _needed_keys(name: str, config: Any) -> list[str]:
    """In the order of the network's modules."""
    places = sources(name, config, build(name, config, "meta"))
    return list(dict.fromkeys(key for source in places.values() for key in source.keys))
