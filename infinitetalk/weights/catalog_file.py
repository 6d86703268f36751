"""A catalog as a JSON file: one whose revisions, sizes and hashes were asked of the hub is a lock
file, and whoever mirrors the weights writes their own.

    {"format": 1, "parts": [{"name": ..., "sources": [{..., "files": [...]}], ...}], "sizes": null}

The keys are the fields of `catalog.py`; those with a default may be left out. A file decides which
bytes are fetched and under which names they are written, so nothing in it is taken on trust.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from infinitetalk.errors import InvalidSetting
from infinitetalk.spec import PRESETS
from infinitetalk.weights.catalog import NOT_KNOWN, Catalog, Part, RemoteFile, Source
from infinitetalk.weights.storage import room_or_storage_full, write_durably

FORMAT = 1
TARGETS = (  # what a part goes into
    "transformer",
    "vae",
    "text_encoder",
    "image_encoder",
    "audio_encoder",
    "tokenizer",
)


def read_catalog(path: Path) -> Catalog:
    """The catalog in a file.

    Raises:
        InvalidSetting: it cannot be read, or is no catalog of this version; says what is wrong.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSetting(f"The catalog {path.name} cannot be read.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidSetting(f"The catalog {path.name} is not JSON.") from error
    try:
        return _catalog(values)
    except ValueError as error:
        raise InvalidSetting(f"The catalog {path.name} is of no use: {error}.") from error


def write_catalog(path: Path, catalog: Catalog) -> None:
    """The inverse of `read_catalog`; an older file stays whole until the new one is.

    Raises:
        InvalidSetting: the file cannot be written.
        StorageFull: for want of room.
    """
    text = json.dumps({"format": FORMAT, **asdict(catalog)}, indent=1)
    try:
        with room_or_storage_full():
            write_durably(path, text + "\n")
    except OSError as error:
        raise InvalidSetting(f"The catalog {path.name} cannot be written.") from error


def _catalog(values: Any) -> Catalog:
    if not isinstance(values, dict):
        raise ValueError("it must be an object")
    values = dict(values)
    if (found := values.pop("format", None)) != FORMAT or found is True:
        raise ValueError(f"it has format {found}, and this version reads {FORMAT}")
    catalog: Catalog = _CATALOG(values, "it")
    return catalog


Reader = Callable[[Any, str], Any]
"""JSON value, where it is -> the value of a field; raises ValueError with the end of a sentence."""


def _record(kind: type[Any], readers: dict[str, Reader]) -> Reader:
    """Objects with the fields of a dataclass."""
    required = {item.name for item in fields(kind) if item.default is MISSING}

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object")
        for names, fault in ((value.keys() - readers, "unknown"), (required - value.keys(), "no")):
            if names:
                raise ValueError(f"{where} has {fault} key {min(names)!r}")
        return kind(
            **{name: readers[name](item, _inside(where, name)) for name, item in value.items()}
        )

    return read


def _inside(where: str, name: str) -> str:
    return name if where == "it" else f"{where}.{name}"


def _list(item: Reader, *, may_be_empty: bool = False) -> Reader:
    """Lists, as tuples."""

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, list) or not (value or may_be_empty):
            raise ValueError(f"{where} must be a list{'' if may_be_empty else ', not empty'}")
        return tuple(item(entry, f"{where}[{index}]") for index, entry in enumerate(value))

    return read


def _sources(value: Any, where: str) -> Any:
    """Sources of a part, told apart by their names."""
    sources = _list(_SOURCE)(value, where)
    names = [source.name for source in sources]
    if len({*names}) < len(names):
        raise ValueError(f"{where} must differ in their names")
    return sources


def _value(words: str, allows: Callable[[Any], Any], *, optional: bool = False) -> Reader:
    """Single values; `words` say which are allowed."""

    def read(value: Any, where: str) -> Any:
        if not (value is None and optional) and not allows(value):
            raise ValueError(f"{where} must be {words}")
        return value

    return read


def _text(words: str, pattern: str, *, optional: bool = False) -> Reader:
    def matches(value: Any) -> bool:
        return isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None

    return _value(words, matches, optional=optional)


def _one_of(*allowed: str) -> Reader:
    return _value(f"one of {', '.join(allowed)}", lambda value: value in allowed)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


_WORD = r"\w[\w.-]*"  # no leading dot: neither "..", nor a name that our own files have
_FILE = _record(
    RemoteFile,
    {
        "path": _text("a relative path", r"\w[\w.+ -]*(/\w[\w.+ -]*)*"),
        "size": _value("a whole number of bytes", _is_count, optional=True),
        "sha256": _text("64 hexadecimal digits in lower case", r"[0-9a-f]{64}", optional=True),
    },
)
_SOURCE = _record(
    Source,
    {
        "name": _text("a word", _WORD),
        "repo": _text("owner/name", f"{_WORD}/{_WORD}"),
        "files": _list(_FILE),
        "dtype": _one_of("float32", "float16", "bfloat16", "-", NOT_KNOWN),
        "licence": _text("a text", r"[^\x00-\x1f]+"),
        "revision": _text(
            "a commit of 40 hexadecimal digits in lower case", r"[0-9a-f]{40}", optional=True
        ),
        "branch": _text("a branch", f"{_WORD}(/{_WORD})*"),
    },
)
_PART = _record(
    Part,
    {
        "name": _text("a word", _WORD),
        "component": _one_of(*TARGETS),
        "sources": _sources,
        "presets": _list(_one_of(*PRESETS), may_be_empty=True),
        "speakers": _value("1 or 2", lambda n: _is_count(n) and n in (1, 2), optional=True),
        "scale": _value("a number", _is_number, optional=True),
    },
)
_CATALOG = _record(
    Catalog,
    {
        "parts": _list(_PART),
        "sizes": _value("an object", lambda sizes: isinstance(sizes, dict), optional=True),
    },
)
