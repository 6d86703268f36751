import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from infinitetalk.errors import WeightsCorrupt, WeightsMissing
from infinitetalk.weights.convert import COMPONENTS
from infinitetalk.weights.load import Model, component_dtypes, load_model
from infinitetalk.weights.model_config import MODEL
from infinitetalk.weights.prepared import MANIFEST, VERIFIED, write_manifest

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
    write_manifest(folder, "tiny", "bfloat16", 2, "changed")


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
        ("cuda", "bfloat16", ["bfloat16", "float32", "bfloat16", "float16", "float32"]),
    ],
)
def test_vae_and_speech_encoder_are_always_float32(
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


def test_every_network_is_announced_before_it_is_read(tiny_folder: Path) -> None:
    names: list[str] = []
    load_model(tiny_folder, CPU, torch.float32, on_component=names.append)
    assert sorted(names) == sorted(COMPONENTS)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing):
        load_model(tmp_path, CPU, torch.float32)


def test_an_altered_file_is_refused_before_any_network_is_read(folder: Path) -> None:
    path = folder / "audio_encoder.safetensors"
    path.write_bytes(b"x" * path.stat().st_size)
    names: list[str] = []
    with pytest.raises(WeightsCorrupt, match="is altered"):
        load_model(folder, CPU, torch.float32, on_component=names.append)
    assert names == []


def test_a_sealed_file_that_is_no_safetensors_is_typed(folder: Path) -> None:
    (folder / "vae.safetensors").write_bytes(b"not tensors at all")
    seal(folder)
    with pytest.raises(WeightsCorrupt, match="vae is unreadable"):
        load_model(folder, CPU, torch.float32)


def test_sealed_weights_of_other_sizes_are_typed(folder: Path) -> None:
    model = folder / MODEL
    model.write_text(model.read_text().replace('"ffn_dim": 128', '"ffn_dim": 96'))
    seal(folder)
    with pytest.raises(WeightsCorrupt, match=r"transformer do not fit: .* of another shape"):
        load_model(folder, CPU, torch.float32)


def test_a_sealed_folder_without_a_network_is_typed(folder: Path) -> None:
    (folder / "vae.safetensors").unlink()
    seal(folder)
    with pytest.raises(WeightsCorrupt, match="vae is unreadable"):
        load_model(folder, CPU, torch.float32)


def test_a_sealed_folder_without_a_tokenizer_is_typed(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    seal(folder)
    with pytest.raises(WeightsCorrupt, match="tokenizer"):
        load_model(folder, CPU, torch.float32)
