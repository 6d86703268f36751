"""The order of prepared files. What they hold is tested in test_prepare.py."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

import pytest
import torch

from infinitetalk.weights.convert import COMPONENTS, SCALE, to_original
from infinitetalk.weights.convert import build as build_network
from infinitetalk.weights.model_config import released_config
from infinitetalk.weights.packing import Packer, in_loading_order
from infinitetalk.weights.safetensors_header import encode_header
from infinitetalk.weights.tensor_file import TensorFile, Tensors
from infinitetalk.weights.tensor_writer import PlannedTensor


def order(names: Sequence[str]) -> list[str]:
    plan = [PlannedTensor(name, torch.float32, (1,)) for name in names]
    return [planned.name for planned in in_loading_order(plan)]


def test_query_key_and_value_are_neighbours_kind_by_kind() -> None:
    modules = [f"a.{part}.{kind}" for part in "qkvo" for kind in ("weight", "weight_scale", "bias")]
    assert order(modules) == [
        *("a.q.weight", "a.k.weight", "a.v.weight"),
        *("a.q.weight_scale", "a.k.weight_scale", "a.v.weight_scale"),
        *("a.q.bias", "a.k.bias", "a.v.bias"),
        *("a.o.weight", "a.o.weight_scale", "a.o.bias"),
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["a.q.bias", "b.q.bias", "b.k.bias"],
        ["b.modulation", "b.norm.weight", "b.norm.bias", "a.ffn.0.weight"],
        ["x.k_img.weight", "x.v_img.weight", "x.k_img.bias", "x.v_img.bias", "x.norm_k_img.weight"],
        ["conv.bias", "conv.weight_g", "conv.weight_v"],
        ["freq.weight", "tv.weight", "q_linear.weight", "kv_linear.weight"],
    ],
)
def test_everything_else_stays_in_the_order_of_the_network(names: list[str]) -> None:
    assert order(names) == names


def released(name: str, tmp_path: Path) -> Packer:
    """The packer of the released sizes, from a file that is a header and a hole."""
    config = getattr(released_config(), name)
    shapes = to_original(name, config, build_network(name, config, "meta").state_dict())
    header = encode_header((key, torch.bfloat16, tuple(t.shape)) for key, t in shapes.items())
    path = tmp_path / f"{name}.safetensors"
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 2 * sum(tensor.numel() for tensor in shapes.values()))
    with TensorFile(path, path.name) as opened:
        tensors = Tensors(opened.entries, dict.fromkeys(opened.entries, opened))
        return Packer(name, config, [tensors], is_fp8=name == "transformer")


@pytest.mark.parametrize("name", COMPONENTS)
def test_in_the_released_sizes_every_tensor_is_aligned_for_its_dtype(
    name: str, tmp_path: Path
) -> None:
    """So a piece of the file can be taken for a tensor where it is."""
    place = 0
    for planned in released(name, tmp_path).plan:
        assert place % planned.dtype.itemsize == 0
        assert place % 64 == 0 or name == "vae"  # whose last bias has three values
        place += planned.size


def test_the_released_transformer_takes_19_gb_of_which_97_percent_are_in_8_bits(
    tmp_path: Path,
) -> None:
    plan = released("transformer", tmp_path).plan
    eighth = [planned for planned in plan if planned.dtype == torch.float8_e4m3fn]
    values = sum(prod(planned.shape) for planned in plan if not planned.name.endswith(SCALE))
    assert sum(planned.size for planned in plan) == pytest.approx(19.4e9, rel=0.02)
    assert sum(planned.size for planned in eighth) / values > 0.96
