"""A table of jobs: a CSV file with a column for each field of the HTTP API, and one for the output.

    image,audio,prompt,output
    face.png,monday.wav,A person smiles.,monday.mp4
    face.png,tuesday.wav,,tuesday.mp4

Files are relative to the folder of the table. A row is known by its output.
"""

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infinitetalk.cli.fields import NAMES
from infinitetalk.client.upload import is_url
from infinitetalk.errors import FileMissing, InvalidField, InvalidInput

MEDIA = ("image", "audio", "audio_2")
COLUMNS = (*MEDIA, "output", *NAMES, "boxes", "callback_url", "output_url")


@dataclass(frozen=True, slots=True)
class Row:
    """One job of a table."""

    name: str  # its output as it is written there
    output: Path
    media: Mapping[str, str]  # files or URLs
    fields: Mapping[str, Any]
    digest: str  # of what was asked for, as it is written there

    @property
    def files(self) -> list[Path]:
        return [Path(source) for source in self.media.values() if not is_url(source)]


def read_rows(path: Path, shared: Mapping[str, Any]) -> list[Row]:
    """The jobs of a table; `shared` is what cells that are empty or absent stand for.

    Raises:
        FileMissing: there is no such file.
        InvalidInput: it is no table of jobs; says in which line.
    """
    rows: dict[Path, Row] = {}
    for line, cells in _read_cells(path):
        row = _row(line, cells, path.parent, shared)
        if rows.setdefault(row.output, row) is not row:
            raise InvalidInput(f"Line {line} of the table has the output of another line.")
    if not rows:
        raise InvalidInput(f"{path} holds no rows.")
    return list(rows.values())


def _row(line: int, cells: Mapping[str, str], folder: Path, shared: Mapping[str, Any]) -> Row:
    asked = {**shared, **cells}
    for name in ("image", "audio", "output"):
        if name not in asked:
            raise InvalidField(f"Line {line} of the table has no {name}.", field=name)
    media = {name: _located(cells[name], folder) for name in MEDIA if name in cells}
    sources = {name: str(shared[name]) for name in MEDIA if name in shared} | media
    fields = {name: value for name, value in asked.items() if name not in (*MEDIA, "output")}
    return Row(asked["output"], folder / asked["output"], sources, fields, _digest(asked))


def _digest(asked: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _located(source: str, folder: Path) -> str:
    return source if is_url(source) else str(folder / source)


def _read_cells(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and the cells that are not empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="", restval="", strict=True)
            _check_columns(reader.fieldnames or ())
            for cells in reader:
                if "" in cells:
                    raise InvalidInput(f"Line {reader.line_num} of the table has too many cells.")
                yield reader.line_num, {k: v.strip() for k, v in cells.items() if v.strip()}
    except OSError as error:
        raise FileMissing(f"{path} cannot be read.", field="csv") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path} is no CSV file in UTF-8.") from error


def _check_columns(names: Iterable[str]) -> None:
    for name in names:
        if name not in COLUMNS:
            known = ", ".join(COLUMNS)
            raise InvalidField(f"The table has a column {name!r}; there are {known}.", field=name)
