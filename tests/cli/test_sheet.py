"""Tables of jobs and what is kept of them."""

import csv
from pathlib import Path

import pytest

from infinitetalk.cli.results import COMPLETED, NEW, Result, results_beside
from infinitetalk.cli.sheet import Row, read_rows
from infinitetalk.errors import FileMissing, InfiniteTalkError, InvalidField, InvalidInput, JobBusy


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "jobs.csv"


def test_files_are_relative_to_the_table_and_empty_cells_are_absent(table: Path) -> None:
    table.write_text("image,audio,prompt,output\nface.png,https://x.org/a.wav,,videos/a.mp4\n\n")
    [row] = read_rows(table, {})
    assert row.output == table.parent / "videos/a.mp4"
    assert row.media == {"image": str(table.parent / "face.png"), "audio": "https://x.org/a.wav"}
    assert row.files == [table.parent / "face.png"]
    assert row.fields == {}


def test_options_stand_for_cells_that_are_empty(table: Path) -> None:
    table.write_text("audio,seed,output\na.wav,,a.mp4\nb.wav,7,b.mp4\n")
    first, second = read_rows(table, {"image": "face.png", "seed": 1})
    assert (first.media["image"], first.fields) == ("face.png", {"seed": 1})
    assert second.fields == {"seed": "7"}


def test_a_row_stays_the_same_wherever_its_table_is_looked_at_from(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.write_text("image,audio,seed,output\nface.png,a.wav,1,a.mp4\nface.png,a.wav,2,b.mp4\n")
    monkeypatch.chdir(table.parent)
    near, far = read_rows(Path(table.name), {}), read_rows(table, {})
    assert [row.digest for row in near] == [row.digest for row in far]
    assert near[0].digest != near[1].digest != read_rows(table, {"prompt": "Hello."})[1].digest


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("image,audio,mood,output\n", InvalidField, "column 'mood'"),
        ("image;audio;output\na;b;c\n", InvalidField, "column"),
        ("image,audio,output\na,b\n", InvalidField, "Line 2 of the table has no output"),
        ("image,audio,output\n,b,c.mp4\n", InvalidField, "Line 2 of the table has no image"),
        ("image,audio,output\na,b,c.mp4,d\n", InvalidInput, "Line 2 .* too many"),
        ("image,audio,output\na,b,c.mp4\nd,e,c.mp4\n", InvalidInput, "Line 3 .* output of another"),
        ('image,audio,output\na,"b"x,c.mp4\n', InvalidInput, "no CSV"),
    ],
)
def test_what_is_no_table_of_jobs_is_refused_with_its_line(
    text: str, kind: type[InfiniteTalkError], says: str, table: Path
) -> None:
    table.write_text(text)
    with pytest.raises(kind, match=says):
        read_rows(table, {})


def test_a_table_must_be_there_and_in_utf_8(table: Path) -> None:
    with pytest.raises(FileMissing):
        read_rows(table, {})
    table.write_bytes("image,audio,output\n\xe9,b,c.mp4\n".encode("latin-1"))
    with pytest.raises(InvalidInput, match="UTF-8"):
        read_rows(table, {})


def test_a_table_as_a_spreadsheet_saves_it_is_read(table: Path) -> None:
    table.write_bytes("image,audio,output\r\nü.png,b.wav,c.mp4\r\n".encode("utf-8-sig"))
    assert read_rows(table, {})[0].files[0].name == "ü.png"


def _row(name: str, **fields: str) -> Row:
    media = {"image": "face.png", "audio": "a.wav"}
    return Row(name, Path(name), media, fields, digest=str(fields))


def test_results_are_found_again_in_the_order_of_the_table(table: Path) -> None:
    table.touch()
    first, second = _row("a.mp4"), _row("b.mp4")
    with results_beside(table, [first]) as results:
        results.put(first, status="failed", error='It said "no", twice.', code="invalid_field")
    with results_beside(table, [second, first]) as results:
        assert results.of(first).error == 'It said "no", twice.'
        assert results.of(second).status == NEW
        results.put(second, status=COMPLETED, task_id="t1")
    with table.with_suffix(".results.csv").open() as file:
        assert [cells["output"] for cells in csv.DictReader(file)] == ["b.mp4", "a.mp4"]


def test_the_result_of_a_row_that_was_deleted_is_kept(table: Path) -> None:
    table.touch()
    gone, left = _row("a.mp4"), _row("b.mp4")
    with results_beside(table, [gone, left]) as results:
        results.put(gone, status="pending", task_id="t1")
    with results_beside(table, [left]):
        pass
    with table.with_suffix(".results.csv").open() as file:
        kept = [(cells["output"], cells["task_id"]) for cells in csv.DictReader(file)]
    assert kept == [("b.mp4", ""), ("a.mp4", "t1")]


@pytest.mark.parametrize("text", ["", "image,audio,output\n", "image,audio,output\n,,\n\n"])
def test_a_table_without_rows_is_refused(table: Path, text: str) -> None:
    table.write_text(text)
    with pytest.raises(InvalidInput):
        read_rows(table, {})


def test_a_changed_row_counts_as_new(table: Path) -> None:
    table.touch()
    before, after = _row("a.mp4", seed="1"), _row("a.mp4", seed="2")
    with results_beside(table, [before]) as results:
        results.put(before, status=COMPLETED, key="k")
    with results_beside(table, [after]) as results:
        assert results.of(after) == Result("a.mp4", row=after.digest)


def test_two_commands_on_one_table_would_render_everything_twice(table: Path) -> None:
    table.touch()
    with results_beside(table, []), pytest.raises(JobBusy), results_beside(table, []):
        pass
    with results_beside(table, []):
        pass


def test_results_that_cannot_be_written_are_found_out_before_any_job(table: Path) -> None:
    table.touch()
    table.with_suffix(".results.csv").mkdir()
    with pytest.raises(InvalidField), results_beside(table, []):
        pass
