"""Real weights end to end, at small sizes: the hub, the command line, the loader, a video."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infinitetalk.cli import main
from infinitetalk.config import Settings
from infinitetalk.errors import WeightsCorrupt
from infinitetalk.runner import Result, Runner
from infinitetalk.spec import specify
from infinitetalk.weights.prepare import LOCK
from infinitetalk.weights.prepared import prepared_folders, read_manifest
from infinitetalk.weights.storage import exclusively
from tests.fake_hub import CATALOG_FILE, FakeHub, build

Command = Callable[..., int]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    folder = tmp_path_factory.mktemp("hub")
    build(folder)
    with FakeHub(folder) as hub:
        yield hub


@pytest.fixture
def home(tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Home of a deployment whose hub is the fake one."""
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("INFINITETALK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def weights(home: Path, hub: FakeHub) -> Command:
    """`infinitetalk weights ...` with the catalog of the fake hub."""

    def run(command: str, *options: object) -> int:
        catalog = ["--catalog", hub.folder / CATALOG_FILE] if command in CHOOSING else []
        return main(["weights", command, *map(str, (*catalog, *options))])

    return run


CHOOSING = {"check", "download", "prepare"}
VARIANTS = {
    ("fast", "fp8", 2): True,
    ("fast", "bf16", 1): False,
    ("standard", "fp8", 1): False,
    ("standard", "bf16", 2): True,
    ("best", "fp8", 2): False,
    ("best", "bf16", 1): True,
}
"""Every two of preset, precision and number of speakers, and whether a video is made of it: every
value is in one, but a frame of 480p takes a CPU seconds.
"""


@pytest.mark.parametrize(("preset", "precision", "speakers"), VARIANTS)
def test_from_the_hub_to_a_video(
    preset: str,
    precision: str,
    speakers: int,
    home: Path,
    weights: Command,
    portrait: Path,
    make_speech: Callable[..., Path],
    render: Callable[..., Result],
) -> None:
    model = ("--preset", preset, "--speakers", speakers)
    assert weights("check", "--remote", *model) == 0
    assert weights("prepare", *model, "--precision", precision) == 0

    runner = Runner.load(preset, Settings(home=home, precision="auto"))
    assert runner.speakers == speakers
    if not VARIANTS[preset, precision, speakers]:
        return
    voices = [make_speech(0.2, seed=number) for number in range(speakers)]
    few = specify(preset, steps=1, window=5, motion_frames=1)
    assert render(runner, few, portrait, voices).frames == 5


def test_what_is_left_out_of_the_original_files_is_said(
    weights: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert weights("prepare") == 0
    said = capsys.readouterr().err
    assert re.search(r"image_encoder: [1-9]\d* tensors of the original are not needed", said)
    assert re.search(r"LoRA .+: \d+ of \d+ keys used; \d+ ignored", said)


def test_what_is_prepared_is_not_fetched_again(weights: Command, hub: FakeHub) -> None:
    assert weights("prepare") == 0
    assert weights("prune", "--sources") == 0
    asked = len(hub.asked)
    assert weights("prepare") == 0
    assert len(hub.asked) == asked


def test_a_local_folder_is_as_good_as_the_hub(weights: Command, hub: FakeHub, home: Path) -> None:
    assert weights("prepare") == 0
    asked = len(hub.asked)
    assert weights("prepare", "--from", hub.folder, "--out", home / "weights" / "local") == 0
    assert len(hub.asked) == asked
    one, other = (read_manifest(home / "weights" / n).files for n in ("standard-fp8-1", "local"))
    assert one == other


def test_pinned_files_are_prepared(weights: Command, home: Path, tmp_path: Path) -> None:
    pinned = tmp_path / "pinned.json"
    assert weights("check", "--remote", "--resolve", pinned) == 0
    assert main(["weights", "prepare", "--catalog", str(pinned), "--preset", "best"]) == 0
    manifest = read_manifest(home / "weights" / "best-fp8-1")
    assert all(row["revision"] and row["sha256"] for row in manifest.sources)


@pytest.fixture
def lora(hub: FakeHub) -> Path:
    return next(hub.folder.rglob("lightx2v*rank64*.safetensors"))


def test_a_lora_of_ones_own_takes_the_place_of_the_presets(
    weights: Command, hub: FakeHub, home: Path, lora: Path
) -> None:
    command = ("prepare", "--lora", f"{lora}:0.5", "--out", home / "weights" / "mine")
    assert weights(*command) == 0
    merged = [
        (Path(row["path"]).name, row["scale"])
        for row in read_manifest(home / "weights" / "mine").sources
        if row["part"] == "lora"
    ]
    assert merged == [(lora.name, 0.5)]

    assert weights("prune", "--sources") == 0
    asked = len(hub.asked)
    assert weights(*command) == 0
    assert len(hub.asked) == asked, "what is prepared is not fetched again"
    other = ("prepare", "--lora", f"{lora}:0.7", "--out", home / "weights" / "mine")
    assert weights(*other) == 0
    assert len(hub.asked) > asked


@pytest.mark.parametrize("scale", ["nan", "inf", "x", ""])
def test_the_scale_of_a_lora_is_a_number(
    scale: str, weights: Command, lora: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        weights("prepare", "--lora", f"{lora}:{scale}", "--out", "x")
    assert "is no number" in capsys.readouterr().err


def test_a_folder_of_others_is_not_replaced_and_nothing_is_fetched_for_it(
    weights: Command, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app, thesis = tmp_path / "app", tmp_path / "thesis"
    app.mkdir()
    (app / "manifest.json").write_text('{"name": "my app"}')
    thesis.write_text("years of work")
    asked = len(hub.asked)
    for place, said in ((app, "something else"), (thesis, "cannot be written")):
        assert weights("prepare", "--out", place) == 2
        assert said in capsys.readouterr().err
    assert (app / "manifest.json").exists() and thesis.exists()
    assert len(hub.asked) == asked


def test_a_flipped_byte_is_refused_by_name(
    weights: Command, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert weights("prepare") == 0
    path = home / "weights" / "standard-fp8-1" / "transformer.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)

    assert weights("verify") == 3
    assert "standard-fp8-1/transformer.safetensors" in capsys.readouterr().out
    with pytest.raises(WeightsCorrupt, match="infinitetalk weights prepare --preset standard"):
        Runner.load("standard", Settings(home=home))
    assert weights("prepare") == 0  # and that mends it
    assert weights("verify", "--deep") == 0


def test_status_says_what_is_there_and_what_can_go(
    weights: Command, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert weights("prepare", "--preset", "fast", "--precision", "bf16") == 0
    assert weights("status") == 0
    said = capsys.readouterr().out
    assert "fast-bf16-1" in said and "weights prepare --preset best" in said
    assert f"{home / 'weights' / 'sources'}: original files" in said

    assert weights("prune", "--sources", "--dry-run") == 0
    assert (home / "weights" / "sources").exists()
    assert weights("prune", "--sources") == 0
    assert [path.name for path in (home / "weights").glob("[!.]*")] == ["fast-bf16-1"]
    assert weights("prune", "fast-bf16-1") == 0
    assert prepared_folders(home / "weights") == {}


def test_an_unknown_model_is_not_pruned(
    weights: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert weights("prune", "../home") == 2
    assert "There is no prepared model '../home'" in capsys.readouterr().err


def test_a_part_that_is_gone_is_named_before_anything_is_fetched(
    home: Path, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "some"
    shutil.copytree(hub.folder, folder, ignore=shutil.ignore_patterns("Wan2.1_VAE.pth"))
    catalog = ("--catalog", str(hub.folder / CATALOG_FILE), "--from", str(folder))
    assert main(["weights", "check", *catalog]) == 3
    assert "No source that fits for: vae." in capsys.readouterr().out
    assert main(["weights", "prepare", *catalog]) == 3
    assert "source_file_missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("check", "--resolve", "x.json"), "add --remote"),
        (("check", "--remote", "--from", "."), "not at a folder"),
        (("download", "--from", "nowhere"), "--from nowhere is no folder"),
        (("download", "--source", "base=elsewhere"), "there are comfy, official"),
        (("prepare", "--lora", "x.safetensors:0.5", "--out", "y"), "x.safetensors does not exist"),
        (("prepare", "--lora", __file__, "--out", "y"), "is unreadable"),
        (("prepare", "--lora", __file__), "name its folder with --out"),
        (("check",), "Nothing was fetched yet"),
        (("prepare", "--catalog", "nowhere.json"), "nowhere.json cannot be read"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(
    options: tuple[str, ...], said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", *options]) in (2, 3)
    assert said in capsys.readouterr().err


def test_nothing_is_pruned_while_it_is_prepared(
    weights: Command, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = home / "weights" / ".best-fp8-1.part"
    trash = home / "weights" / ".Trash-1000"
    for folder in (part, trash):
        folder.mkdir(parents=True)
        (folder / "recipe.json").touch()
    with exclusively(home / "weights" / LOCK):
        assert weights("prune") == 3
    assert "weights_busy" in capsys.readouterr().err
    assert weights("prune") == 0
    assert trash.exists() and not part.exists()


def test_an_alteration_that_a_deep_look_finds_is_not_believed_away(
    weights: Command, home: Path
) -> None:
    assert weights("prepare") == 0
    path = home / "weights" / "standard-fp8-1" / "vae.safetensors"
    long_ago = time.time() - 1000
    os.utime(path, (long_ago, long_ago))
    assert weights("verify") == 0  # and noted
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, (long_ago, long_ago))

    assert weights("verify") == 0
    assert weights("verify", "--deep") == 3
    assert weights("verify") == 3
