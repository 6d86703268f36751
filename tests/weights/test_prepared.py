"""A prepared folder: what is believed, what is checked, and what two processes do to each other."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from infinitetalk.errors import WeightsCorrupt, WeightsMissing
from infinitetalk.weights.model_config import MODEL, read_model_config
from infinitetalk.weights.prepared import (
    FORMAT,
    MANIFEST,
    VERIFIED,
    Manifest,
    damaged_folders,
    prepared_folders,
    preparing,
    read_manifest,
    remedy,
    verify,
    write_manifest,
)
from infinitetalk.weights.stamps import read_stamps

WEIGHTS = "vae.safetensors"


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A prepared folder of its own, never verified so far."""
    copy = tmp_path / "tiny"
    shutil.copytree(tiny_folder, copy, ignore=shutil.ignore_patterns(VERIFIED))
    for path in copy.iterdir():
        make_older(path, seconds=3600)
    return copy


def make_older(path: Path, *, seconds: float) -> None:
    modified = path.stat().st_mtime - seconds
    os.utime(path, (modified, modified))


def check(folder: Path, *, deep: bool = False) -> None:
    verify(folder, read_manifest(folder), deep=deep)


def flip_byte(path: Path, *, keep_time: bool) -> None:
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def edit_manifest(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    values = json.loads((folder / MANIFEST).read_text())
    change(values)
    (folder / MANIFEST).write_text(json.dumps(values))


def test_a_fresh_folder_is_good(folder: Path) -> None:
    check(folder)
    assert (folder / VERIFIED).is_file()


@pytest.mark.parametrize("name", [WEIGHTS, MODEL, "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(WeightsCorrupt, match=f"tiny/{name} is missing or partial"):
        check(folder)


def test_a_truncated_file_is_named_without_being_read(folder: Path) -> None:
    path = folder / WEIGHTS
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(WeightsCorrupt, match=f"tiny/{WEIGHTS} is missing or partial"):
        check(folder)


def test_a_flipped_byte_is_found(folder: Path) -> None:
    flip_byte(folder / WEIGHTS, keep_time=False)
    with pytest.raises(WeightsCorrupt, match=f"tiny/{WEIGHTS} is altered"):
        check(folder)
    assert WEIGHTS not in read_stamps(folder / VERIFIED)


def test_a_file_found_right_is_not_hashed_again(folder: Path) -> None:
    """A byte that flips without a trace in size and time shows that nothing was read."""
    check(folder)
    flip_byte(folder / WEIGHTS, keep_time=True)
    check(folder)


def test_a_file_touched_since_is_hashed_again(folder: Path) -> None:
    check(folder)
    flip_byte(folder / WEIGHTS, keep_time=False)
    with pytest.raises(WeightsCorrupt, match="is altered"):
        check(folder)


def test_a_file_touched_but_unchanged_is_good(folder: Path) -> None:
    check(folder)
    make_older(folder / WEIGHTS, seconds=60)
    check(folder)
    flip_byte(folder / WEIGHTS, keep_time=True)
    check(folder)  # the new time was noted


def test_a_file_written_just_now_is_hashed_again_at_the_next_start(folder: Path) -> None:
    """A second change could bear the same time where clocks are coarse."""
    (folder / WEIGHTS).touch()
    check(folder)
    flip_byte(folder / WEIGHTS, keep_time=True)
    with pytest.raises(WeightsCorrupt, match="is altered"):
        check(folder)


def test_a_read_only_folder_is_not_hashed_at_every_start(folder: Path, tmp_path: Path) -> None:
    """A folder in place of its notes is as unwritable for root as for anybody."""
    (folder / VERIFIED).mkdir()
    manifest, stamps = read_manifest(folder), tmp_path / "home" / "verified"
    verify(folder, manifest, stamps=stamps)
    flip_byte(folder / WEIGHTS, keep_time=True)
    verify(folder, manifest, stamps=stamps)
    with pytest.raises(WeightsCorrupt, match="is altered"):
        verify(folder, manifest, stamps=tmp_path / "another")


@pytest.mark.parametrize(
    ("preset", "remedy"),
    [
        ("tiny", "Delete the folder; the next start writes it again."),
        (
            "standard",
            "Run `infinitetalk weights prepare --preset standard --precision fp8 --speakers 2` "
            "again.",
        ),
    ],
)
def test_a_damaged_folder_comes_with_what_mends_it(folder: Path, preset: str, remedy: str) -> None:
    edit_manifest(folder, lambda v: v.update(preset=preset, precision="fp8", speakers=2))
    (folder / WEIGHTS).unlink()
    with pytest.raises(WeightsCorrupt) as caught:
        check(folder)
    assert caught.value.message.endswith(remedy)


def test_every_altered_file_is_looked_for(folder: Path) -> None:
    """The one with the last name is found as well as the one with the first."""
    for path in (folder / "audio_encoder.safetensors", folder / WEIGHTS):
        flip_byte(path, keep_time=False)
        with pytest.raises(WeightsCorrupt, match=f"{path.name} is altered"):
            check(folder)
        flip_byte(path, keep_time=False)
    check(folder)


def test_a_deep_check_believes_no_earlier_one(folder: Path) -> None:
    check(folder)
    flip_byte(folder / WEIGHTS, keep_time=True)
    with pytest.raises(WeightsCorrupt, match="is altered"):
        check(folder, deep=True)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"vae.safetensors": 3}'])
def test_a_broken_note_of_earlier_checks_is_not_believed(folder: Path, text: str) -> None:
    (folder / VERIFIED).write_text(text)
    flip_byte(folder / WEIGHTS, keep_time=True)
    with pytest.raises(WeightsCorrupt, match="is altered"):
        check(folder)


def test_a_file_beside_the_prepared_ones_is_no_concern(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    check(folder)


@pytest.mark.parametrize("path", ["", "nowhere"])
def test_a_folder_without_a_manifest_holds_no_model(tmp_path: Path, path: str) -> None:
    with pytest.raises(WeightsMissing):
        read_manifest(tmp_path / path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '"tiny"', '{"format": 1}'])
def test_a_broken_manifest_is_typed(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(WeightsCorrupt, match="tiny"):
        read_manifest(folder)


@pytest.mark.parametrize("other", [FORMAT + 1, 0, None, "1"])
def test_another_format_says_which_and_which_is_read(folder: Path, other: object) -> None:
    edit_manifest(folder, lambda values: values.update(format=other))
    with pytest.raises(WeightsCorrupt, match=f"format {other}; this version reads {FORMAT}"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("preset"),
        lambda values: values.pop("files"),
        lambda values: values.update(files=[1]),
        lambda values: values.update(files={"vae.safetensors": {"size": 1}}),
        lambda values: values.update(licence="none"),
    ],
    ids=["no preset", "no files", "files are a list", "no hash", "a field more"],
)
def test_a_manifest_that_lacks_something_is_typed(
    folder: Path, change: Callable[[dict[str, object]], object]
) -> None:
    edit_manifest(folder, change)
    with pytest.raises(WeightsCorrupt, match="incomplete"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"transformer": 3}', '{"transformer": {"dim": 4}}']
)
def test_sizes_of_another_version_are_typed(folder: Path, text: str) -> None:
    (folder / MODEL).write_text(text)
    with pytest.raises(WeightsCorrupt, match="unreadable"):
        read_model_config(folder)


def test_the_fingerprint_follows_the_files(folder: Path) -> None:
    manifest = read_manifest(folder)
    files = dict(manifest.files)
    files[WEIGHTS] = replace(files[WEIGHTS], sha256="0" * 64)
    assert replace(manifest, files=files).fingerprint != manifest.fingerprint
    assert read_manifest(folder).fingerprint == manifest.fingerprint


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "models" / "new"
    with preparing(target) as part:
        (part / "a").write_text("1")
        write_manifest(part, "tiny", "bf16", 2, "test")
        assert not target.exists()
    assert sorted(path.name for path in target.iterdir()) == ["a", MANIFEST]
    assert [path.name for path in target.parent.iterdir()] == ["new"]


def test_a_failed_preparation_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk"), preparing(tmp_path / "new") as part:
        (part / "a").write_text("1")
        raise OSError("the disk is full")
    assert list(tmp_path.iterdir()) == []


def test_of_two_at_once_the_first_to_finish_is_kept_and_both_succeed(tmp_path: Path) -> None:
    target = tmp_path / "new"
    with preparing(target) as slow:
        with preparing(target) as fast:
            (fast / "a").write_text("fast")
            write_manifest(fast, "tiny", "bf16", 2, "fast")
        (slow / "a").write_text("slow")
        write_manifest(slow, "tiny", "bf16", 2, "slow")
    assert (target / "a").read_text() == "fast"
    check(target, deep=True)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_folder_that_holds_something_else_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "new"
    target.mkdir()
    (target / "diary.txt").write_text("dear diary")
    with pytest.raises(OSError), preparing(target) as part:
        write_manifest(part, "tiny", "bf16", 2, "test")
    assert [path.name for path in target.iterdir()] == ["diary.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_the_models_below_a_folder_are_found_by_their_manifests(folder: Path) -> None:
    (folder.parent / "empty").mkdir()
    shutil.copytree(folder, folder.parent / "old")
    edit_manifest(folder.parent / "old", lambda values: values.update(format=0))
    shutil.copytree(folder, folder.parent / ".tiny-killed")  # left by a killed preparation
    assert list(prepared_folders(folder.parent)) == [folder]


@pytest.mark.parametrize("text", ["", "{", '{"format": 1}', '{"format": 0}'])
def test_a_model_with_a_broken_manifest_is_told_as_damaged(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    ((path, error),) = damaged_folders(folder.parent).items()
    assert path == folder
    assert error.message.endswith("Delete the folder and prepare the model again.")


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"name": "an app"}'])
def test_a_manifest_of_another_program_is_no_model(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    assert damaged_folders(folder.parent) == prepared_folders(folder.parent) == {}


def test_a_whole_model_is_not_damaged(folder: Path) -> None:
    assert damaged_folders(folder.parent) == {}


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ((), "--precision fp8 --speakers 2` again."),
        (({"part": "lora", "repo": "owner/name"},), "--speakers 2` again."),
        (({"part": "lora", "repo": None},), "again with the --lora and --out that it was made"),
    ],
)
def test_the_remedy_is_the_command_that_made_the_model(
    sources: tuple[dict[str, str | None], ...], said: str
) -> None:
    manifest = Manifest("standard", "fp8", 2, "a recipe", {}, sources)
    assert said in remedy(manifest)
