"""A file read in ranges behaves like a file, and asks seldom."""

import io
import random

import pytest

from infinitetalk.weights.ranged_file import FIRST_BLOCK, LONGEST_BLOCK, RangedFile

CONTENT = random.Random(1).randbytes(5 * FIRST_BLOCK + 12345)


class Ranges:
    """Serves ranges and keeps what was asked."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []

    def read(self, start: int, stop: int) -> bytes:
        self.asked.append((start, stop))
        return self.content[start:stop]

    def file(self) -> io.BufferedReader:
        return io.BufferedReader(RangedFile(self.read, len(self.content)))


@pytest.mark.parametrize("seed", range(5))
def test_reads_and_seeks_anywhere_give_what_a_file_gives(seed: int) -> None:
    chance = random.Random(seed)
    ranged, plain = Ranges(CONTENT).file(), io.BytesIO(CONTENT)
    for _ in range(50):
        whence = chance.choice((io.SEEK_SET, io.SEEK_END))
        offset = chance.randrange(len(CONTENT)) - (len(CONTENT) if whence else 0)
        assert ranged.seek(offset, whence) == plain.seek(offset, whence)
        size = chance.choice((0, 1, 4096, FIRST_BLOCK, 3 * FIRST_BLOCK))
        assert ranged.read(size) == plain.read(size)
        assert ranged.tell() == plain.tell()


def test_a_file_ends_where_it_ends() -> None:
    ranged = Ranges(CONTENT).file()
    ranged.seek(len(CONTENT) + 7)
    assert ranged.read(10) == b""
    with pytest.raises(ValueError, match="before the start"):
        RangedFile(Ranges(b"").read, 0).seek(-1)


def test_the_head_of_a_file_costs_one_request_and_its_end_another() -> None:
    ranges = Ranges(CONTENT)
    file = ranges.file()
    file.read(8)
    file.read(200_000)
    for from_end in (22, 1000, 100_000):
        file.seek(-from_end, io.SEEK_END)
        file.read(20)
    file.seek(100)
    file.read(100)
    assert ranges.asked == [(0, FIRST_BLOCK), (len(CONTENT) - FIRST_BLOCK, len(CONTENT))]


def test_whoever_reads_on_gets_ever_longer_blocks() -> None:
    ranges = Ranges(bytes(60 * FIRST_BLOCK))
    assert len(ranges.file().read(60 * FIRST_BLOCK)) == 60 * FIRST_BLOCK
    lengths = [stop - start for start, stop in ranges.asked]
    assert [length // FIRST_BLOCK for length in lengths] == [1, 2, 4, 8, 16, 16, 13]
    assert max(lengths) == LONGEST_BLOCK


def test_a_small_file_is_read_at_once() -> None:
    ranges = Ranges(b"tiny")
    assert ranges.file().read() == b"tiny"
    assert ranges.asked == [(0, 4)]
