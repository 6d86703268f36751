import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from infinitetalk.weights.convert import COMPONENTS, build, fit, to_original
from infinitetalk.weights.prepared import TOKENIZER, read_manifest, verify
from infinitetalk.weights.synthetic import SIZES, folder_name, random_weight, write_synthetic

PROGRAM = """
import sys
from pathlib import Path
from infinitetalk.weights.prepared import read_manifest
from infinitetalk.weights.synthetic import folder_name, write_synthetic
alone, shared = (Path(argument) for argument in sys.argv[1:])
write_synthetic("tiny", alone)
print(folder_name("tiny"), read_manifest(alone).fingerprint, flush=True)
sys.stdin.readline()
write_synthetic("tiny", shared)
"""


def test_another_process_makes_the_same_weights_even_at_the_same_time(
    tiny_folder: Path, tmp_path: Path
) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared" / "tiny"
    other = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, alone, shared],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdin and other.stdout
    name, fingerprint = other.stdout.readline().split()
    other.stdin.write("go\n")
    other.stdin.flush()
    write_synthetic("tiny", shared)
    other.communicate(timeout=60)
    assert other.returncode == 0
    assert name == folder_name("tiny")
    assert fingerprint == read_manifest(tiny_folder).fingerprint
    assert fingerprint == read_manifest(shared).fingerprint
    verify(shared, read_manifest(shared), deep=True)
    assert [path.name for path in shared.parent.iterdir()] == ["tiny"]


def test_writing_draws_from_no_global_generator(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    write_synthetic("tiny", tmp_path / "tiny")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_weight_depends_on_its_name_and_the_scale_on_its_inputs() -> None:
    shape = torch.Size((400, 100))
    one, again, other = (random_weight(f"{name}.weight", shape) for name in ("a", "a", "b"))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.float().std().item() == pytest.approx(100**-0.5, rel=0.05)


def test_norms_are_one_and_biases_zero() -> None:
    assert random_weight("blocks.0.norm3.weight", torch.Size((7,))).float().sum() == 7
    assert random_weight("decoder.middle.1.norm.gamma", torch.Size((7, 1, 1))).float().sum() == 7
    assert random_weight("head.head.bias", torch.Size((7,))).abs().sum() == 0


@pytest.mark.parametrize("preset", SIZES)
def test_the_sizes_of_a_preset_fit_together(preset: str, tiny_folder: Path) -> None:
    config = SIZES[preset](Tokenizer.from_file(str(tiny_folder / TOKENIZER)).get_vocab_size())
    transformer = config.transformer
    assert transformer.text_dim == config.text_encoder.dim
    assert transformer.text_tokens == config.text_encoder.max_tokens
    assert transformer.image_dim == config.image_encoder.dim
    assert transformer.audio_dim == config.audio_encoder.dim
    assert transformer.audio_layers == config.audio_encoder.layers
    assert transformer.out_channels == config.vae.z_dim
    for name in COMPONENTS:
        sizes = getattr(config, name)
        shapes = to_original(name, sizes, build(name, sizes, "meta").state_dict())
        assert fit(name, sizes, {key: tuple(t.shape) for key, t in shapes.items()}).is_exact


def test_presets_have_folders_of_their_own() -> None:
    assert folder_name("tiny") != folder_name("demo")
    assert folder_name("tiny").startswith("tiny-")
