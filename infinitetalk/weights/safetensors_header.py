"""The header of a .safetensors file: 8 bytes of length, then JSON that names every tensor's place.

The tensors follow without gaps, in any order. Reads what anybody may have written, and refuses what
does not add up to the file's size.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import torch

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
LENGTH = 8  # bytes of the header's length
LONGEST = 100_000_000  # bytes of a header; the limit of the safetensors library
ALIGNMENT = 4096  # bytes; of the first tensor, so that it can be read past the page cache
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where a tensor lies in its file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...] | None  # in values; None: row after row without gaps
    start: int  # first byte in the file; 0 in a pickle that does not tell
    size: int  # bytes from there to the end of the last value


def parse_header(text: bytes, start: int, end: int) -> dict[str, TensorEntry]:
    """The tensors of a file by the JSON of its header.

    Args:
        start: first byte after the header.
        end: the file's size in bytes.

    Raises:
        ValueError: it is no such header, or its tensors do not fill the file one after another.
    """
    try:
        values = json.loads(text, object_pairs_hook=_unique)
        values.pop("__metadata__", None)
        entries = {key: _parse_entry(value, start) for key, value in values.items()}
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("its header makes no sense") from error
    if not _is_seamless(entries.values(), start, end):
        raise ValueError("its tensors do not fill it")
    return entries


def encode_header(tensors: Iterable[tuple[str, torch.dtype, tuple[int, ...]]]) -> bytes:
    """Length and JSON of a header for tensors that follow in this order, padded with spaces."""
    entries, end = {}, 0
    for name, dtype, shape in tensors:
        begin, end = end, end + prod(shape) * dtype.itemsize
        entries[name] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": (begin, end)}
    text = json.dumps(entries).encode()
    text += b" " * (-(LENGTH + len(text)) % ALIGNMENT)
    return len(text).to_bytes(LENGTH, "little") + text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("its header names a tensor twice")
    return values


def _parse_entry(value: Mapping[str, Any], start: int) -> TensorEntry:
    dtype = DTYPES[value["dtype"]]
    shape = tuple(value["shape"])
    begin, end = value["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise TypeError("a size is no size")
    if end - begin != prod(shape) * dtype.itemsize:
        raise ValueError("a tensor's shape and bytes differ")
    return TensorEntry(dtype, shape, None, start + begin, end - begin)


def _is_seamless(entries: Iterable[TensorEntry], start: int, end: int) -> bool:
    """Tensor after tensor from `start` to `end`: nothing overlaps, nothing is cut off."""
    spans = sorted((entry.start, entry.start + entry.size) for entry in entries)
    return all(
        before[1] == after[0] for before, after in pairwise([(start, start), *spans, (end, end)])
    )
