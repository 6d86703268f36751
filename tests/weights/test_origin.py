"""A folder as an origin, and what is pinned of a source."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from infinitetalk.errors import SourceFileMissing, WeightsCorrupt
from infinitetalk.weights.catalog import RemoteFile, Source
from infinitetalk.weights.origin import Described, LocalFolder, pin

FILE = RemoteFile("single/weights.bin")
SOURCE = Source("official", "owner/name", (FILE,), "float32", "MIT")
COMMIT = "c0" * 20


@pytest.mark.parametrize(
    "place",
    ["owner/name/single/weights.bin", "name/single/weights.bin", FILE.path, "weights.bin"],
)
def test_a_file_is_found_however_its_repository_was_copied(place: str, tmp_path: Path) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    origin = LocalFolder(tmp_path)
    assert origin.describe(SOURCE, FILE) == Described(None, 7, None)
    with origin.open(SOURCE, FILE) as file:
        assert file.read() == b"weights"


def test_the_most_exact_place_is_taken(tmp_path: Path) -> None:
    for place in ("owner/name/single", "name/single", "single", "."):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "weights.bin").write_text(place)
    with LocalFolder(tmp_path).open(SOURCE, FILE) as file:
        assert file.read() == b"owner/name/single"


@pytest.mark.parametrize("speakers", ["single", "multi"])
def test_a_name_that_two_files_have_is_not_enough(speakers: str, tmp_path: Path) -> None:
    file = RemoteFile(f"{speakers}/infinitetalk.safetensors")
    source = replace(SOURCE, repo="MeiGen-AI/InfiniteTalk", files=(file,))
    (tmp_path / "infinitetalk.safetensors").touch()
    with pytest.raises(SourceFileMissing):
        LocalFolder(tmp_path).describe(source, file)
    (tmp_path / speakers).mkdir()
    (tmp_path / file.path).touch()
    assert LocalFolder(tmp_path).describe(source, file).size == 0


def test_a_file_of_a_folder_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"weights")
    counts: list[int] = []
    origin = LocalFolder(tmp_path)
    assert origin.missing_bytes(SOURCE, FILE, tmp_path / "other") == 0
    path = origin.fetch(SOURCE, FILE, tmp_path / "other", counts.append)
    assert (path, counts) == (tmp_path / "weights.bin", [7])


def test_a_file_that_is_not_there_is_named_but_not_the_folders_around(tmp_path: Path) -> None:
    with pytest.raises(SourceFileMissing) as missing:
        LocalFolder(tmp_path / "models").describe(SOURCE, FILE)
    assert "single/weights.bin of owner/name is not in the folder models" in missing.value.message
    assert str(tmp_path) not in missing.value.message


@dataclass(frozen=True)
class Shelf(LocalFolder):
    """An origin that says what it is told to say."""

    folder: Path = Path()
    says: dict[str, Described] = field(default_factory=dict)
    asked: list[str | None] = field(default_factory=list)  # revisions

    def describe(self, source: Source, file: RemoteFile) -> Described:
        self.asked.append(source.revision)
        return self.says[file.path]


def two_files(**known: Described) -> tuple[Shelf, Source]:
    said = {"a": Described(COMMIT, 3, "a" * 64), "b": Described(COMMIT, 4, None), **known}
    return Shelf(says=said), replace(SOURCE, files=(RemoteFile("a"), RemoteFile("b")))


def test_pinning_fills_in_what_the_origin_says() -> None:
    origin, source = two_files()
    files = (RemoteFile("a", 3, "a" * 64), RemoteFile("b", 4))
    assert pin(origin, source) == replace(source, revision=COMMIT, files=files)


def test_all_files_are_taken_at_the_commit_of_the_first() -> None:
    origin, source = two_files()
    pin(origin, source)
    assert origin.asked == [None, COMMIT]


def test_what_is_known_and_equal_stays() -> None:
    origin, source = two_files()
    known = replace(source, files=(RemoteFile("a", 3, "a" * 64), RemoteFile("b", 4, "b" * 64)))
    assert pin(origin, known).files == known.files


@pytest.mark.parametrize(
    ("known", "there", "here"),
    [
        (RemoteFile("a", 5), "3 there", "5 here"),
        (RemoteFile("a", 3, "f" * 64), "a" * 64, "f" * 64),
    ],
)
def test_another_file_than_the_known_one_is_refused_with_both(
    known: RemoteFile, there: str, here: str
) -> None:
    origin, source = two_files()
    with pytest.raises(WeightsCorrupt) as refused:
        pin(origin, replace(source, files=(known,)))
    assert there in refused.value.message
    assert here in refused.value.message
    assert "with --catalog FILE. Nothing was changed." in refused.value.message
