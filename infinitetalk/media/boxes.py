"""Boxes of the ISO base media format (ISO/IEC 14496-12), of which mp4 files are made.

For files of our own: sizes of 32 bits, every box whole. What the boxes mean is not known here.
"""

import struct
from collections.abc import Iterator

_HEADER = struct.Struct(">I4s")


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box with this content."""
    size = _HEADER.size + sum(map(len, parts))
    return b"".join((_HEADER.pack(size, kind), *parts))


def full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """A box whose content begins with a version and 24 flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def children(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes that follow each other in a box or a file."""
    start = 0
    while start < len(content):
        size, kind = _HEADER.unpack_from(content, start)
        yield kind, content[start + _HEADER.size : start + size]
        start += size


def find(content: bytes, *path: bytes) -> bytes:
    """Content of the first box at the end of a path of kinds.

    Raises:
        LookupError: there is none.
    """
    for kind in path:
        content = next((inner for name, inner in children(content) if name == kind), b"")
        if not content:
            raise LookupError(f"There is no box {b'/'.join(path).decode()}.")
    return content
