"""How many bytes a model takes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from infinitetalk.spec import PRESETS
from infinitetalk.weights.convert import COMPONENTS
from infinitetalk.weights.footprint import RESERVE, Footprint, original_shapes, tensor_bytes
from infinitetalk.weights.model_config import read_model_config, released_config
from infinitetalk.weights.prepared import weights_file
from infinitetalk.weights.synthetic import model_config, write_synthetic
from infinitetalk.weights.text_placement import TextPlacement

GPU, CPU = torch.device("cuda"), torch.device("cpu")
STANDARD = Footprint(PRESETS["standard"], released_config(), "bf16", torch.bfloat16, GPU)
TINY = Footprint(PRESETS["tiny"], model_config("tiny"), "bf16", torch.float32, CPU)


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_weights_are_counted_as_they_are_stored(tmp_path: Path, precision: str) -> None:
    write_synthetic("tiny", tmp_path / "tiny", precision)
    config = read_model_config(tmp_path / "tiny")
    for name in COMPONENTS:
        is_fp8 = name == "transformer" and precision == "fp8"
        shapes = original_shapes(name, getattr(config, name))
        size = tensor_bytes(name, shapes, torch.bfloat16, torch.device("cpu"), is_fp8=is_fp8)
        assert size == stored_bytes(tmp_path / "tiny" / weights_file(name)), name


def stored_bytes(path: Path) -> int:
    with safe_open(path, "pt") as file:
        return sum(file.get_tensor(key).nbytes for key in file.keys())  # noqa: SIM118


def test_the_full_model_takes_what_its_parameters_add_up_to() -> None:
    """18.9 billion of the transformer at 2 bytes, 0.61 of the image encoder and 0.13 of the VAE in
    float16, 0.09 of the speech encoder at 4; torch's rounding on a GPU is below a percent."""
    assert STANDARD.resident == pytest.approx((18.88 + 0.74) * 2e9 + 0.09 * 4e9, rel=0.01)


def test_in_fp8_the_transformer_takes_about_half() -> None:
    """98 % of its values are in the blocks' linear layers. Most of them have 5120 x 5120 bytes in
    fp8, which torch rounds up by 4 % on a GPU: an H200 had 31.0 GiB with the text encoder, when
    the VAE's 0.13 billion were in float32."""
    on_gpu, on_cpu = (replace(STANDARD, device=device) for device in (STANDARD.device, CPU))
    for model, share in ((on_cpu, 0.98), (on_gpu, 0.96)):
        saved = model.resident - replace(model, precision="fp8").resident
        assert saved == pytest.approx(share * 18.88e9, rel=0.005)
    half = replace(STANDARD, precision="fp8")
    everything = half.resident + half.text_encoder(TextPlacement.DEVICE).device
    assert everything == pytest.approx(31.0 * 2**30 - 0.13 * 2e9, rel=0.005)


@pytest.mark.parametrize(
    ("model", "placement", "device", "host"),
    [
        (STANDARD, TextPlacement.DEVICE, 11.36e9, 0),
        (STANDARD, TextPlacement.DEVICE_FP8, 6.73e9, 0),  # the vocabulary stays in bf16
        (STANDARD, TextPlacement.CPU, 0, 11.36e9),
        (replace(STANDARD, arithmetic=torch.float32), "cpu", 0, 11.36e9),  # bf16 there
        (replace(STANDARD, device=CPU, arithmetic=torch.float32), "device", 22.72e9, 0),
        (replace(STANDARD, device=CPU, arithmetic=torch.float32), "cpu", 22.72e9, 0),
    ],
    ids=str,
)
def test_the_text_encoder_takes_memory_where_it_is(
    model: Footprint, placement: str, device: float, host: float
) -> None:
    needed = model.text_encoder(TextPlacement(placement))
    assert (needed.device, needed.host) == pytest.approx((device, host), rel=0.01)


def test_a_window_takes_more_of_everything_at_a_larger_resolution() -> None:
    small, large = (STANDARD.window_parts(name) for name in ("480p", "720p"))
    assert all(large[part] > small[part] for part in small)
    assert STANDARD.window("480p") == max(small.values()) + RESERVE


def test_arithmetic_in_float32_takes_more_in_the_transformer_and_the_vae() -> None:
    half, full = (
        replace(STANDARD, arithmetic=dtype).window_parts("480p")
        for dtype in (torch.bfloat16, torch.float32)
    )
    assert full["transformer forward"] == 2 * half["transformer forward"]
    assert 1.5 * half["VAE decode"] < full["VAE decode"] < 2 * half["VAE decode"]


@pytest.mark.parametrize("resolution", ["480p", "720p"])
def test_tiles_take_less_in_the_decode_alone(resolution: str) -> None:
    whole, *tiled = (STANDARD.window_parts(resolution, tiles) for tiles in (1, 2, 3))
    assert whole == STANDARD.window_parts(resolution)
    decodes = [parts.pop("VAE decode") for parts in (whole, *tiled)]
    assert decodes == sorted(decodes, reverse=True)
    assert all(parts == whole for parts in tiled)


def test_a_tile_is_never_larger_than_the_picture() -> None:
    """A tiny picture is seen whole from each of its pixels."""
    whole, tiled = (TINY.window_parts("48p", tiles) for tiles in (1, 3))
    assert tiled == whole


def test_a_small_model_takes_little() -> None:
    assert 0 < TINY.window("48p") < 100e6
    assert 0 < TINY.resident < 10e6
