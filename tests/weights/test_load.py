import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infinitetalk.errors import WeightsCorrupt, WeightsMissing
from infinitetalk.models.float8 import FLOAT8, Float8Linear, dequantize
from infinitetalk.weights.convert import COMPONENTS
from infinitetalk.weights.load import Model, component_dtypes, load_model, placements
from infinitetalk.weights.model_config import MODEL
from infinitetalk.weights.prepared import FP8, MANIFEST, VERIFIED, weights_file, write_manifest
from infinitetalk.weights.reading import read_header
from infinitetalk.weights.synthetic import write_synthetic
from infinitetalk.weights.text_placement import TextPlacement

CPU = torch.device("cpu")


def networks(model: Model) -> dict[str, nn.Module]:
    return {name: getattr(model, name) for name in COMPONENTS}


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "tiny"
    shutil.copytree(tiny_folder, copy, ignore=shutil.ignore_patterns(VERIFIED))
    return copy


def seal(folder: Path) -> None:
    """Make the manifest true again after a change."""
    (folder / MANIFEST).unlink()
    (folder / VERIFIED).unlink(missing_ok=True)
    write_manifest(folder, "tiny", "bf16", 2, "changed")


def test_every_network_is_ready_to_run(tiny_model: Model) -> None:
    for network in networks(tiny_model).values():
        assert not network.training
        assert not any(p.requires_grad or p.is_meta for p in network.parameters())
        assert not any(buffer.is_meta for buffer in network.buffers())


@pytest.mark.parametrize(
    ("device", "precision", "dtypes"),
    [
        ("cpu", "float32", ["float32"] * 5),
        ("cpu", "bfloat16", ["bfloat16", "float32", "bfloat16", "float32", "float32"]),
        ("cuda", "bfloat16", ["bfloat16", "float16", "bfloat16", "float16", "float32"]),
        ("cuda", "float32", ["float32", "float32", "float32", "float16", "float32"]),
    ],
)
def test_networks_have_an_arithmetic_of_their_own(
    device: str, precision: str, dtypes: list[str]
) -> None:
    chosen = component_dtypes(getattr(torch, precision), torch.device(device))
    order = ("transformer", "vae", "text_encoder", "image_encoder", "audio_encoder")
    assert [str(chosen[name]) for name in order] == [f"torch.{dtype}" for dtype in dtypes]


def test_networks_are_loaded_in_their_own_precision(tiny_folder: Path) -> None:
    model = load_model(tiny_folder, CPU, torch.bfloat16)
    for name, dtype in component_dtypes(torch.bfloat16, CPU).items():
        assert {p.dtype for p in networks(model)[name].parameters()} == {dtype}


def test_two_loads_give_the_same_weights(tiny_folder: Path, tiny_model: Model) -> None:
    again = load_model(tiny_folder, CPU, torch.float32)
    for name, network in networks(tiny_model).items():
        others = networks(again)[name].state_dict()
        assert all(torch.equal(others[key], tensor) for key, tensor in network.state_dict().items())
    assert again.manifest.fingerprint == tiny_model.manifest.fingerprint


def test_progress_of_every_network_goes_from_nothing_to_its_whole_file(tiny_folder: Path) -> None:
    told: dict[str, list[tuple[int, int]]] = {name: [] for name in COMPONENTS}
    load_model(
        tiny_folder,
        CPU,
        torch.float32,
        on_progress=lambda name, done, total: told[name].append((done, total)),
    )
    for name, steps in told.items():
        entries = read_header(tiny_folder / weights_file(name))
        size = sum(entry.size for entry in entries.values())
        assert steps[0] == (0, size) and steps[-1] == (size, size)
        assert steps == sorted(steps)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing):
        load_model(tmp_path, CPU, torch.float32)


def test_an_altered_file_is_refused_before_any_network_is_read(folder: Path) -> None:
    path = folder / "audio_encoder.safetensors"
    path.write_bytes(b"x" * path.stat().st_size)
    told: list[str] = []
    with pytest.raises(WeightsCorrupt, match="is altered"):
        load_model(folder, CPU, torch.float32, on_progress=lambda name, *_: told.append(name))
    assert told == []


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Store other tensors."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


VAE, TRANSFORMER = "vae.safetensors", "transformer.safetensors"
Q, FFN = "blocks.0.self_attn.q.weight", "blocks.1.ffn.0.weight"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no safetensors": (
        lambda folder: (folder / VAE).write_bytes(b"not tensors at all"),
        f"The weights file tiny/{VAE} is unreadable.",
    ),
    "cut off": (
        lambda folder: os.truncate(folder / VAE, (folder / VAE).stat().st_size - 1),
        f"The weights file tiny/{VAE} is unreadable.",
    ),
    "gone": (
        lambda folder: (folder / VAE).unlink(),
        f"The weights file tiny/{VAE} is unreadable.",
    ),
    "no tokenizer": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        "The weights file tiny/tokenizer.json is unreadable.",
    ),
    "other sizes": (
        lambda folder: (folder / MODEL).write_text(
            (folder / MODEL).read_text().replace('"ffn_dim": 128', '"ffn_dim": 96')
        ),
        "The weights of transformer do not fit: ",
    ),
    "8 bits without a scale": (
        lambda folder: rewrite(folder / TRANSFORMER, lambda t: t.pop(Q + "_scale")),
        f"The weights of transformer do not fit: {Q} has 8 bits and no scale.",
    ),
    "a scale without 8 bits": (
        lambda folder: rewrite(folder / TRANSFORMER, lambda t: t.update({Q: t[Q].bfloat16()})),
        f"The weights of transformer do not fit: {Q} has a scale and not 8 bits.",
    ),
    "a scale of nothing": (
        lambda folder: rewrite(
            folder / TRANSFORMER, lambda t: t.update({"blocks.0.x.weight_scale": torch.ones(3)})
        ),
        "The weights of transformer do not fit: blocks.0.x.weight has a scale and not 8 bits.",
    ),
    "a scale of another length": (
        lambda folder: rewrite(
            folder / TRANSFORMER, lambda t: t.update({FFN + "_scale": torch.ones(3)})
        ),
        f"The weights of transformer do not fit: 1 of another shape ({FFN}_scale is [3]).",
    ),
    "8 bits where none belong": (
        lambda folder: rewrite(
            folder / TRANSFORMER,
            lambda t: t.update(
                {
                    "blocks.0.norm3.weight": t["blocks.0.norm3.weight"].to(torch.float8_e4m3fn),
                    "blocks.0.norm3.weight_scale": torch.ones(64),
                }
            ),
        ),
        "The weights of transformer do not fit: 1 not known (blocks.0.norm3.weight_scale).",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_sealed_files_that_do_not_load_are_named_with_what_mends_them(
    fp8_folder: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(fp8_folder, folder, ignore=shutil.ignore_patterns(VERIFIED))
    spoil, message = DAMAGE[damage]
    spoil(folder)
    seal(folder)
    with pytest.raises(WeightsCorrupt) as caught:
        load_model(folder, CPU, torch.float32)
    assert caught.value.message.startswith(message)
    assert caught.value.message.endswith("Delete the folder; the next start writes it again.")


def test_a_file_that_shrinks_while_it_is_read_is_named(folder: Path) -> None:
    def shrink(name: str, done: int, _: int) -> None:
        if name == "vae" and done == 0:
            os.truncate(folder / VAE, (folder / VAE).stat().st_size - 1)

    with pytest.raises(WeightsCorrupt, match=f"tiny/{VAE} is unreadable"):
        load_model(folder, CPU, torch.float32, on_progress=shrink)


@pytest.fixture(scope="module")
def fp8_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` prepared in 8 bits."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    write_synthetic("tiny", folder, FP8)
    return folder


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_what_is_stored_in_8_bits_is_computed_in_8_bits(
    fp8_folder: Path, precision: torch.dtype
) -> None:
    """And everything else in the chosen precision."""
    state = load_model(fp8_folder, CPU, precision).transformer.state_dict()
    float8 = {key for key, tensor in state.items() if tensor.dtype == FLOAT8}
    scales = {key for key in state if key.endswith("_scale")}
    assert len(float8) == len(scales) == 2 * 13  # query, key and value are one
    assert {state[key].dtype for key in state.keys() - float8 - scales} == {precision}
    assert {state[key].dtype for key in scales} == {torch.float32}


def test_weights_in_8_bits_are_those_of_the_file(fp8_folder: Path, tiny_model: Model) -> None:
    """Off by a sixteenth at most from the same model that was not quantised."""
    packed = load_model(fp8_folder, CPU, torch.float32).transformer
    for name, layer in packed.named_modules():
        if isinstance(layer, Float8Linear):
            weight = dequantize(layer.weight_float8, layer.weight_scale)
            expected = tiny_model.transformer.get_submodule(name).weight
            torch.testing.assert_close(weight, expected, rtol=1 / 16, atol=1e-4)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_text_encoder_can_be_quantised_while_it_is_loaded(
    tiny_folder: Path, tiny_model: Model, precision: torch.dtype
) -> None:
    """Every product is off by 3.7 %, a block of them by 7 (random weights, sharp attention)."""
    encoder = load_model(
        tiny_folder, CPU, precision, text_encoder=TextPlacement.DEVICE_FP8
    ).text_encoder
    layers = [layer for layer in encoder.modules() if isinstance(layer, Float8Linear)]
    assert len(layers) == 7
    ids = [5, 9, 3, 7, 1]
    expected, found = tiny_model.text_encoder(ids), encoder(ids)
    assert found.dtype == precision
    assert 0.01 < (found - expected).norm() / expected.norm() < 0.1


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("text_encoder", "expected"),
    [
        (TextPlacement.DEVICE, ("{device}", torch.float32, False)),
        (TextPlacement.DEVICE_FP8, ("{device}", torch.float32, True)),
        (TextPlacement.CPU, ("cpu", torch.bfloat16, False)),
    ],
)
def test_the_text_encoder_goes_where_it_is_told(
    device: str, text_encoder: TextPlacement, expected: tuple[str, torch.dtype, bool]
) -> None:
    """Beside a GPU the CPU computes it in bfloat16; where there is only a CPU nothing changes."""
    places = placements(torch.float32, torch.device(device), text_encoder)
    others = {place.device.type for name, place in places.items() if name != "text_encoder"}
    where, dtype, quantized = expected
    if device == "cpu" and text_encoder is TextPlacement.CPU:
        dtype = torch.float32
    place = places["text_encoder"]
    assert others == {device}
    assert (place.device.type, place.dtype) == (where.format(device=device), dtype)
    assert place.is_quantized is quantized


def test_one_table_of_words_serves_both_its_users(tiny_folder: Path) -> None:
    """The text encoder of transformers has it under two names; it is the largest tensor there."""
    net = load_model(tiny_folder, CPU, torch.float32).text_encoder.net
    assert net.shared.weight.data_ptr() == net.encoder.embed_tokens.weight.data_ptr()


def test_a_read_only_folder_is_hashed_once(folder: Path, tmp_path: Path) -> None:
    (folder / VERIFIED).mkdir()  # nothing can be noted there
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    load_model(folder, CPU, torch.float32, stamps=tmp_path / "stamps")
    assert len(list((tmp_path / "stamps").iterdir())) == 1
