"""Headers there and back; hostile ones are in test_tensor_file.py."""

import json
from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infinitetalk.weights.safetensors_header import (
    ALIGNMENT,
    DTYPES,
    LENGTH,
    encode_header,
    parse_header,
)

TENSORS = st.lists(
    st.tuples(
        st.text(min_size=1, max_size=20).filter(lambda name: name != "__metadata__"),
        st.sampled_from([*DTYPES.values()]),
        st.lists(st.integers(0, 50), max_size=4).map(tuple),
    ),
    unique_by=lambda tensor: tensor[0],
    max_size=20,
)


@given(TENSORS)
def test_what_is_encoded_is_parsed(
    tensors: list[tuple[str, torch.dtype, tuple[int, ...]]],
) -> None:
    header = encode_header(tensors)
    size = sum(prod(shape) * dtype.itemsize for _, dtype, shape in tensors)
    entries = parse_header(header[LENGTH:], len(header), len(header) + size)
    assert [(key, e.dtype, e.shape) for key, e in entries.items()] == tensors
    assert all(e.size == prod(e.shape) * e.dtype.itemsize for e in entries.values())


@given(TENSORS)
def test_the_first_tensor_is_aligned(
    tensors: list[tuple[str, torch.dtype, tuple[int, ...]]],
) -> None:
    header = encode_header(tensors)
    assert len(header) % ALIGNMENT == 0
    assert int.from_bytes(header[:LENGTH], "little") == len(header) - LENGTH


@pytest.mark.parametrize("surplus", [-1, 1])
def test_a_file_of_another_size_is_refused(surplus: int) -> None:
    header = encode_header([("k", torch.float32, (5,))])
    with pytest.raises(ValueError, match="do not fill"):
        parse_header(header[LENGTH:], len(header), len(header) + 20 + surplus)


def test_a_tensor_without_values_may_lie_anywhere() -> None:
    header = {
        "a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
        "b": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]},
        "c": {"dtype": "F32", "shape": [3, 0], "data_offsets": [2, 2]},
    }
    assert parse_header(json.dumps(header).encode(), 8, 10).keys() == header.keys()
