"""Whether a prepared model is what a catalog would give, so that nothing needs to be fetched to see
that there is nothing to do. Needs no torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from infinitetalk.weights.catalog import Part, RemoteFile, Source
from infinitetalk.weights.prepared import LORA, Manifest

Row = Mapping[str, Any]
"""A file that a model was made of, as its manifest has it."""


def is_made_of(
    manifest: Manifest, parts: Iterable[Part], loras: Sequence[tuple[str, float]] = ()
) -> bool:
    """Whether the model was made of one source of each of these parts and of nothing else.

    Args:
        loras: sha256 and scale of LoRAs that are in no catalog, in the order they were added.
    """
    parts = tuple(parts)
    names = {part.name for part in parts} | ({LORA} if loras else set())
    own = [(row["sha256"], row["scale"]) for row in manifest.own_loras]
    return (
        names == {row["part"] for row in manifest.sources}
        and own == list(loras)
        and all(any(_is_from(manifest, part, source) for source in part.sources) for part in parts)
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
