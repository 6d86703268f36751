"""A file that is read in ranges, as one to seek and read in.

Whoever looks into a header reads a few bytes here and there; every answer of a server costs far
more time than a megabyte. So whole blocks are asked for, longer ones to whoever reads on, and the
last few are kept.
"""

import io
from collections.abc import Callable

FIRST_BLOCK = 1 << 20  # bytes; the header of a 14B transformer has 200 kB
LONGEST_BLOCK = 16 << 20  # bytes
KEPT_BLOCKS = 4


class RangedFile(io.RawIOBase):
    """A read-only file over a function that reads the bytes from start to stop."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int) -> None:
        super().__init__()
        self._read_range = read_range
        self._size = size
        self._position = 0
        self._blocks: list[tuple[int, bytes]] = []  # start and content, the newest last

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the start of the file")
        self._position = base + offset
        return self._position

    def readinto(self, target: bytearray | memoryview, /) -> int:  # type: ignore[override]
        if self._position >= self._size:
            return 0
        start, block = self._block_at(self._position)
        offset = self._position - start
        found = memoryview(block)[offset : offset + len(target)]
        target[: len(found)] = found
        self._position += len(found)
        return len(found)

    def _block_at(self, position: int) -> tuple[int, bytes]:
        for start, block in self._blocks:
            if start <= position < start + len(block):
                return start, block
        return self._fetch_block(position)

    def _fetch_block(self, position: int) -> tuple[int, bytes]:
        newest_start, newest = self._blocks[-1] if self._blocks else (0, b"")
        is_reading_on = bool(newest) and position == newest_start + len(newest)
        length = min(2 * len(newest), LONGEST_BLOCK) if is_reading_on else FIRST_BLOCK
        stop = min(position + length, self._size)
        # The end of an archive is read backwards: its last bytes come with those before them.
        start = position if is_reading_on else max(0, min(position, stop - FIRST_BLOCK))
        block = self._read_range(start, stop)
        self._blocks = [*self._blocks[1 - KEPT_BLOCKS :], (start, block)]
        return start, block
