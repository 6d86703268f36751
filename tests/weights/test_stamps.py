import json
import os
from pathlib import Path

import pytest

from infinitetalk.weights.stamps import SETTLED_S, noted, read_stamps, stamp, write_stamps

MODIFIED = 1_700_000_000.75


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_text("weights")
    os.utime(path, (MODIFIED, MODIFIED))
    return path


def is_known(places: list[Path], file: Path, sha256: str) -> bool:
    return bool(noted(places, {"weights": stamp(file, sha256)}))


def write(places: list[Path], file: Path, sha256: str, now: float = MODIFIED + 60) -> None:
    write_stamps(places, {"weights": stamp(file, sha256)}, now)


def test_what_is_noted_is_known(file: Path, tmp_path: Path) -> None:
    places = [tmp_path / "notes"]
    assert not is_known(places, file, "a")
    write(places, file, "a")
    assert is_known(places, file, "a")
    assert not is_known(places, file, "b")


@pytest.mark.parametrize(
    ("modified", "known"),
    [(MODIFIED, True), (int(MODIFIED), True), (MODIFIED + 1, False), (MODIFIED - 1, False)],
    ids=["the same", "by a clock of whole seconds", "later", "earlier"],
)
def test_a_note_holds_while_the_time_does(
    file: Path, tmp_path: Path, modified: float, known: bool
) -> None:
    write([tmp_path / "notes"], file, "a")
    os.utime(file, (modified, modified))
    assert is_known([tmp_path / "notes"], file, "a") is known


def test_a_copy_that_broke_off_and_kept_the_time_is_another_file(
    file: Path, tmp_path: Path
) -> None:
    write([tmp_path / "notes"], file, "a")
    os.truncate(file, 3)
    os.utime(file, (MODIFIED, MODIFIED))
    assert not is_known([tmp_path / "notes"], file, "a")


@pytest.mark.parametrize(
    ("age", "is_noted"),
    [(0.0, False), (SETTLED_S - 1, False), (SETTLED_S + 1, True), (-86400.0, True)],
    ids=["just now", "a second ago", "a while ago", "in the future, by a wrong clock"],
)
def test_what_may_change_within_the_same_second_is_not_noted(
    file: Path, tmp_path: Path, age: float, is_noted: bool
) -> None:
    write([tmp_path / "notes"], file, "a", now=int(MODIFIED) + age)
    assert is_known([tmp_path / "notes"], file, "a") is is_noted


def test_the_second_place_is_written_where_the_first_cannot_be(file: Path, tmp_path: Path) -> None:
    """A folder where the notes should be stands for a disk that is read-only."""
    places = [tmp_path / "first", tmp_path / "home" / "second"]
    places[0].mkdir()
    write(places, file, "a")
    assert is_known(places, file, "a")
    assert list(places[0].iterdir()) == []
    assert [path.name for path in places[1].parent.iterdir()] == ["second"]


def test_old_notes_in_a_read_only_place_do_not_hide_newer_ones(file: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write([first], file, "outdated")
    write([second], file, "a")
    assert is_known([first, second], file, "a")


def test_nothing_is_noted_where_nothing_can_be_written(file: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    write([tmp_path / "notes"], file, "a")
    assert not is_known([tmp_path / "notes"], file, "a")


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"weights": 3}'])
def test_broken_notes_are_not_believed(file: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "notes").write_text(text)
    assert not is_known([tmp_path / "notes"], file, "a")


def test_notes_are_replaced_as_a_whole(file: Path, tmp_path: Path) -> None:
    place = tmp_path / "notes"
    place.write_text(json.dumps({"another": ["b", 1]}))
    write([place], file, "a")
    assert read_stamps(place) == {"weights": ["a", int(MODIFIED), len("weights")]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "weights"]
