"""Whether a prepared model is what a catalog would give, so that nothing needs to be fetched to see
that there is nothing to do. Needs no torch.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from infinitetalk.weights.catalog import Part, RemoteFile, Source
from infinitetalk.weights.prepared import Manifest

Row = Mapping[str, Any]
"""A file that a model was made of, as its manifest has it."""


def is_made_of(manifest: Manifest, parts: Iterable[Part]) -> bool:
    """Whether the model was made of one source of each of these parts and of nothing else."""
    parts = tuple(parts)
    return {part.name for part in parts} == {row["part"] for row in manifest.sources} and all(
        any(_is_from(manifest, part, source) for source in part.sources) for part in parts
    )


def _is_from(manifest: Manifest, part: Part, source: Source) -> bool:
    rows = [row for row in manifest.sources if row["part"] == part.name]
    return len(rows) == len(source.files) and all(
        any(_is_same(row, part, source, file) for row in rows) for file in source.files
    )


def _is_same(row: Row, part: Part, source: Source, file: RemoteFile) -> bool:
    """What only one side knows does not count against a file."""
    known = (
        (row["revision"], source.revision),
        (row["size"], file.size),
        (row["sha256"], file.sha256),
        (row.get("scale"), part.scale),
    )
    is_same_place = (row["repo"], row["path"]) == (source.repo, file.path)
    return is_same_place and all(a == b for a, b in known if None not in (a, b))
