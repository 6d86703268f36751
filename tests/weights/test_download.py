"""Downloads from a hub on loopback: what is fetched, verified, resumed, and refused."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from infinitetalk.errors import (
    Canceled,
    ConnectionFailed,
    InvalidSetting,
    SourceFileMissing,
    SourceForbidden,
    StorageFull,
    WeightsBusy,
    WeightsCorrupt,
)
from infinitetalk.weights.catalog import Catalog, Part, RemoteFile, Source
from infinitetalk.weights.download import DOWNLOADS, LOCK, Progress, download
from infinitetalk.weights.hub import Hub
from infinitetalk.weights.origin import LocalFolder
from infinitetalk.weights.storage import exclusively
from tests.fake_hub import CATALOG_FILE, FakeHub, Fault
from tests.jobs.waiting import until

ROOT = Path(__file__).parents[2]
BASE = "wan2.1_i2v_480p_14B_bf16.safetensors"
GONE = {"X-Error-Code": "EntryNotFound"}


@pytest.fixture
def parts(hub_catalog: Catalog) -> tuple[Part, ...]:
    return hub_catalog.needed("standard", 1)


@pytest.fixture
def base(parts: tuple[Part, ...]) -> Part:
    return parts[0]


def first_files(hub_folder: Path, parts: tuple[Part, ...]) -> dict[str, Path]:
    """The files of the best sources in the hub's folder, by where they come to lie."""
    sources = [part.sources[0] for part in parts]
    names = [f"{source.repo}/{file.path}" for source in sources for file in source.files]
    return {name: hub_folder / name for name in names}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def impatient(hub: FakeHub) -> Hub:
    return Hub(hub.endpoint, sleep=lambda _: None)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_files_of_a_preset_are_fetched_and_nothing_else(
    hub_folder: Path, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    wanted = first_files(hub_folder, parts)
    with FakeHub(hub_folder) as hub:
        fetched = download(parts, Hub(hub.endpoint), tmp_path)
    assert [*fetched] == [part.name for part in parts]
    for name, original in wanted.items():
        assert (tmp_path / name).read_bytes() == original.read_bytes()
    assert {path for one in fetched.values() for path in one.paths} == {
        tmp_path / name for name in wanted
    }
    assert hub.served() == sum(path.stat().st_size for path in wanted.values())
    others = {"downloads.json", "hashes.json", ".lock"}
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert files == wanted.keys() | others


def test_what_was_fetched_is_told_with_revision_size_and_hash(
    hub_folder: Path, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    with FakeHub(hub_folder) as hub:
        fetched = download(parts, Hub(hub.endpoint), tmp_path)
    rows = json.loads((tmp_path / DOWNLOADS).read_text())["files"]
    told = {f"{row['repo']}/{row['path']}": row for row in rows}
    assert told.keys() == first_files(hub_folder, parts).keys()
    for name, one in fetched.items():
        for file, path in zip(one.source.files, one.paths, strict=True):
            row = told[f"{one.source.repo}/{file.path}"]
            assert (file.size, file.sha256) == (path.stat().st_size, sha256(path))
            assert (row["size"], row["sha256"]) == (file.size, file.sha256)
            assert (row["part"], row["source"]) == (name, one.source.name)
            assert row["revision"] == one.source.revision
            assert len(row["revision"]) == 40


def test_a_second_download_fetches_nothing_and_another_preset_only_what_is_its_own(
    hub_folder: Path, hub_catalog: Catalog, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    with FakeHub(hub_folder) as hub:
        download(parts, Hub(hub.endpoint), tmp_path)
        before = hub.served()
        download(parts, Hub(hub.endpoint), tmp_path)
        assert hub.served() == before
        others = hub_catalog.needed("fast", 2)
        download(others, Hub(hub.endpoint), tmp_path)
    new = first_files(hub_folder, others).keys() - first_files(hub_folder, parts).keys()
    assert hub.served() - before == sum((hub_folder / name).stat().st_size for name in new)
    rows = json.loads((tmp_path / DOWNLOADS).read_text())["files"]
    assert len(rows) == len(first_files(hub_folder, parts)) + len(new)


def test_all_shards_of_a_source_are_fetched_in_their_order(
    hub_folder: Path, base: Part, tmp_path: Path
) -> None:
    shards = replace(base, sources=base.sources[1:])
    with FakeHub(hub_folder) as hub:
        fetched = download([shards], Hub(hub.endpoint), tmp_path)["base"]
    assert [path.name for path in fetched.paths] == [file.path for file in fetched.source.files]
    assert len(fetched.paths) == 7


def test_a_folder_is_as_good_as_the_hub_and_is_not_copied(
    hub_folder: Path, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    fetched = download(parts, LocalFolder(hub_folder), tmp_path, free=lambda _: 0)
    for one in fetched.values():
        for file, path in zip(one.source.files, one.paths, strict=True):
            assert path.is_relative_to(hub_folder)
            assert file.sha256 == sha256(path)


def test_progress_counts_all_bytes_once_and_ends_where_everything_is_checked(
    hub_folder: Path, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    for _ in range(2):  # the second time all of it is there
        seen: list[Progress] = []
        with FakeHub(hub_folder, Fault("Wan2.1_VAE.pth", cut_after=9999)) as hub:
            download(parts, impatient(hub), tmp_path, on_progress=seen.append)
        total = sum(path.stat().st_size for path in first_files(hub_folder, parts).values())
        assert {step.total for step in seen} == {total}
        assert (seen[-1].fetched, seen[-1].checked) == (total, total)
        for attribute in ("fetched", "checked"):
            counts = [getattr(step, attribute) for step in seen]
            assert counts == sorted(counts)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_a_download_that_was_ended_goes_on_where_it_was(
    ending: signal.Signals, hub_folder: Path, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    files = first_files(hub_folder, parts)
    (held,) = (name for name in files if name.endswith(BASE))
    others = [tmp_path / name for name in files if name != held]
    command = [sys.executable, "-m", "tests.weights.downloading"]

    def parts_of_base() -> list[Path]:
        found = (tmp_path / held).parent.glob(".*.part")
        return [path for path in found if path.stat().st_size > 100_000]

    with FakeHub(hub_folder, Fault(BASE, hold_after=200_000)) as hub:
        catalog = str(hub_folder / CATALOG_FILE)
        with subprocess.Popen(
            [*command, hub.endpoint, catalog, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL
        ) as process:
            until(lambda: parts_of_base() and all(path.exists() for path in others))
            with pytest.raises(WeightsBusy):
                download(parts, Hub(hub.endpoint), tmp_path)
            process.send_signal(ending)
            assert process.wait(timeout=10) == -ending
    (part,) = parts_of_base()
    missing = files[held].stat().st_size - part.stat().st_size
    assert not (tmp_path / DOWNLOADS).exists()
    with FakeHub(hub_folder) as hub:
        download(parts, Hub(hub.endpoint), tmp_path, free=lambda _: missing)
        assert (hub.served(BASE), hub.served()) == (missing, missing)
    assert (tmp_path / held).read_bytes() == files[held].read_bytes()


@dataclass(frozen=True)
class Endless(LocalFolder):
    """One file ends in an error, the others never end; kept is why they did."""

    ends: list[str] = field(default_factory=list)

    def fetch(
        self, source: Source, file: RemoteFile, folder: Path, on_bytes: Callable[[int], None]
    ) -> Path:
        if file.path == "Wan2.1_VAE.pth":
            raise ConnectionFailed("It broke.")
        deadline = time.monotonic() + 5
        try:
            while time.monotonic() < deadline:
                on_bytes(0)
        except Canceled:
            self.ends.append(file.path)
        return super().fetch(source, file, folder, on_bytes)


def test_an_error_with_one_file_stops_the_others(
    hub_folder: Path, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    endless = Endless(hub_folder)
    with pytest.raises(ConnectionFailed, match=r"It broke\."):
        download(parts, endless, tmp_path, workers=len(parts))
    assert len(endless.ends) == len(parts) - 1
    download(parts, LocalFolder(hub_folder), tmp_path)  # the lock is free


def test_a_byte_that_arrives_altered_is_noticed_and_fetched_again(
    hub_folder: Path, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    with FakeHub(hub_folder, Fault(BASE, flip_at=12345)) as hub:
        with pytest.raises(WeightsCorrupt, match=f"{BASE} of Comfy-Org/.* arrived altered"):
            download(parts, Hub(hub.endpoint), tmp_path)
        assert not list(tmp_path.rglob(f"*{BASE}*"))
        assert not (tmp_path / DOWNLOADS).exists()
        fetched = download(parts, Hub(hub.endpoint), tmp_path)
    assert sha256(fetched["base"].paths[0]) == fetched["base"].source.files[0].sha256


def test_a_file_that_was_altered_here_is_noticed_and_alone_fetched_again(
    hub_folder: Path, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    later = 5e9  # long after every file was modified: all hashes are noted
    with FakeHub(hub_folder) as hub:
        fetched = download(parts, Hub(hub.endpoint), tmp_path, clock=lambda: later)
        path = fetched["vae"].paths[0]
        flip(path)
        os.utime(path, (1e9, 1e9))
        before = hub.served()
        with pytest.raises(WeightsCorrupt, match=r"Wan2\.1_VAE\.pth"):
            download(parts, Hub(hub.endpoint), tmp_path, clock=lambda: later)
        download(parts, Hub(hub.endpoint), tmp_path, clock=lambda: later)
        assert hub.served() - before == path.stat().st_size


def test_hashes_are_not_computed_again(
    hub_folder: Path, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    later = 5e9
    with FakeHub(hub_folder) as hub:
        path = download(parts, Hub(hub.endpoint), tmp_path, clock=lambda: later)["vae"].paths[0]
        modified = path.stat().st_mtime
        flip(path)
        os.utime(path, (modified, modified))  # so that only reading it would tell
        download(parts, Hub(hub.endpoint), tmp_path, clock=lambda: later)


def test_a_file_of_a_folder_that_is_another_one_is_refused_but_not_deleted(
    hub_folder: Path, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    shutil.copytree(hub_folder, tmp_path / "mine")
    (theirs,) = (tmp_path / "mine").rglob(BASE)
    flip(theirs)
    folder = LocalFolder(tmp_path / "mine")
    for downloads in (tmp_path / "out", tmp_path / "mine"):  # `--from` may name the downloads
        with pytest.raises(WeightsCorrupt, match=f"{BASE} of .* in the folder mine is not") as said:
            download(parts, folder, downloads)
        assert "Nothing was changed." in said.value.message
        assert theirs.exists()


def test_a_source_that_is_gone_makes_place_for_the_next_which_is_said(
    hub_folder: Path, base: Part, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeHub(hub_folder, Fault(BASE, times=99, status=404, headers=GONE)) as hub:
        fetched = download([base], Hub(hub.endpoint), tmp_path)["base"]
    assert fetched.source.name == "official"
    (reason,) = fetched.passed_over
    assert BASE in reason
    assert "the source comfy of base is passed over" in caplog.text


def test_a_part_without_any_source_is_missing_with_all_reasons(
    hub_folder: Path, base: Part, tmp_path: Path
) -> None:
    nothing = Fault("resolve", times=99, status=404, headers=GONE)
    with FakeHub(hub_folder, nothing) as hub, pytest.raises(SourceFileMissing) as missing:
        download([base], Hub(hub.endpoint), tmp_path)
    assert "The base is nowhere to be had" in missing.value.message
    assert BASE in missing.value.message
    assert "diffusion_pytorch_model-00001-of-00007.safetensors" in missing.value.message


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(BASE, status=403, headers={"X-Error-Code": "GatedRepo"}), SourceForbidden),
        (Fault(BASE, times=99, status=502), ConnectionFailed),
    ],
    ids=["forbidden", "broken"],
)
def test_no_other_source_is_taken_for_other_reasons(
    fault: Fault, error: type[Exception], hub_folder: Path, base: Part, tmp_path: Path
) -> None:
    with FakeHub(hub_folder, replace(fault)) as hub, pytest.raises(error):
        download([base], impatient(hub), tmp_path)
    assert not hub.served()


def test_another_size_than_the_catalogs_is_refused_before_anything_is_fetched(
    hub_folder: Path, base: Part, tmp_path: Path
) -> None:
    source = base.sources[0]
    wrong = replace(base, sources=(replace(source, files=(RemoteFile(source.files[0].path, 7),)),))
    with FakeHub(hub_folder) as hub, pytest.raises(WeightsCorrupt, match="7 here"):
        download([wrong], Hub(hub.endpoint), tmp_path)
    assert not hub.served()


def test_a_source_with_another_file_makes_place_for_the_next(
    hub_folder: Path, base: Part, tmp_path: Path
) -> None:
    first, *others = base.sources
    wrong = replace(first, files=(RemoteFile(first.files[0].path, 7),))
    with FakeHub(hub_folder) as hub:
        fetched = download([replace(base, sources=(wrong, *others))], Hub(hub.endpoint), tmp_path)
    assert fetched["base"].source.name == others[0].name
    (reason,) = fetched["base"].passed_over
    assert "is another file at" in reason


def test_a_disk_without_room_is_refused_with_both_figures(
    hub_folder: Path, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    needed = sum(path.stat().st_size for path in first_files(hub_folder, parts).values())
    with FakeHub(hub_folder) as hub:
        with pytest.raises(StorageFull, match=r"original weights takes .* GB .* GB free"):
            download(parts, Hub(hub.endpoint), tmp_path, free=lambda _: needed - 1)
        assert not hub.served()
        download(parts, Hub(hub.endpoint), tmp_path, free=lambda _: needed)
        download(parts, Hub(hub.endpoint), tmp_path, free=lambda _: 0)  # nothing is missing


@dataclass(frozen=True)
class Overflowing(LocalFolder):
    """An origin on whose way the disk runs full, whatever was asked before."""

    def fetch(
        self, source: Source, file: RemoteFile, folder: Path, on_bytes: Callable[[int], None]
    ) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_up_meanwhile_is_a_disk_without_room(
    hub_folder: Path, base: Part, tmp_path: Path
) -> None:
    with pytest.raises(StorageFull):
        download([base], Overflowing(hub_folder), tmp_path)


def test_only_one_process_fetches_into_a_folder(
    hub_folder: Path, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    with exclusively(tmp_path / LOCK), pytest.raises(WeightsBusy):
        download(parts, LocalFolder(hub_folder), tmp_path)
    download(parts, LocalFolder(hub_folder), tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(
    hub_folder: Path, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSetting, match="cannot be written; INFINITETALK_WEIGHTS"):
        download(parts, LocalFolder(hub_folder), tmp_path / "file" / "sources")


@pytest.mark.parametrize("content", ["", "[]", '{"format": 9}', '{"format": 1}'])
def test_a_record_that_makes_no_sense_is_written_anew(
    content: str, hub_folder: Path, base: Part, tmp_path: Path
) -> None:
    (tmp_path / DOWNLOADS).write_text(content)
    download([base], LocalFolder(hub_folder), tmp_path)
    (row,) = json.loads((tmp_path / DOWNLOADS).read_text())["files"]
    assert (row["origin"], row["revision"]) == (f"the folder {hub_folder.name}", None)
