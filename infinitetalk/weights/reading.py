"""The tensors of a safetensors file onto a device, as fast as the disk gives them.

The file is read in large pieces, several at once, each by plain reads into memory that is used
again: no memory map, whose page faults come one after another. On the way to a GPU a piece passes
through page-locked memory, copied by a stream of its own while others read; on a CPU it is read to
where it stays. So host memory is bounded by the pieces under way, whatever the file's size.

What a tensor becomes once it is complete (another dtype, 8 bits) is up to the caller. No pickles
here; those of original files are `tensor_file`'s.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import SEEK_END, FileIO
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Protocol

import torch
from torch import Tensor

from infinitetalk.weights.safetensors_header import LENGTH, LONGEST, TensorEntry, parse_header

READERS = 8  # reads in flight
SPAN = 16 << 20  # bytes of one read

Finish = Callable[[str, Tensor], Mapping[str, Tensor]]
"""A complete tensor and its key to what is kept of it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of one tensor that lie in one span of the file."""

    key: str
    start: int  # in the file
    offset: int  # in the tensor
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Where the tensors of a file are.

    Raises:
        OSError: the file cannot be read.
        EOFError, ValueError: it is no safetensors file, or not a whole one.
    """
    with path.open("rb", buffering=0) as file:
        end = file.seek(0, SEEK_END)
        length = int.from_bytes(_read_bytes(file, 0, LENGTH), "little")
        if length > LONGEST:
            raise ValueError("its header is too long")
        return parse_header(_read_bytes(file, LENGTH, length), LENGTH + length, end)


def read_tensors(
    path: Path,
    entries: Mapping[str, TensorEntry],
    device: torch.device,
    *,
    finish: Finish,
    on_bytes: Callable[[int], None] = lambda _: None,
    readers: int = READERS,
    span: int = SPAN,
) -> dict[str, Tensor]:
    """Read these tensors of a file.

    Args:
        finish: called in this thread, in the order of the file.
        on_bytes: likewise; told how many bytes have arrived since it was last told.
        readers: how many reads are in flight.
        span: bytes of one read.

    Raises:
        OSError, EOFError: the file cannot be read or is too short.
    """
    arrivals = _Arrivals(entries, device, finish)
    carriers: SimpleQueue[_Carrier] = SimpleQueue()
    for _ in range(readers):
        carriers.put(_Staged(device, span) if device.type == "cuda" else _Direct())

    def carry(pieces: Sequence[Piece]) -> Sequence[Piece]:
        carrier = carriers.get()
        try:
            with path.open("rb", buffering=0) as file:
                carrier.carry(file, pieces, arrivals)
        finally:
            carriers.put(carrier)
        return pieces

    pool = ThreadPoolExecutor(readers, "weights-reader")
    try:
        for pieces in pool.map(carry, _spans(entries, span)):
            arrivals.account(pieces)
            on_bytes(sum(piece.size for piece in pieces))
    finally:
        pool.shutdown(cancel_futures=True)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return arrivals.kept


def _spans(entries: Mapping[str, TensorEntry], size: int) -> Iterator[Sequence[Piece]]:
    """The bytes of the entries, cut at multiples of `size` of the file: what is read together."""
    for _, span in groupby(_pieces(entries, size), key=lambda piece: piece.start // size):
        yield list(span)


def _pieces(entries: Mapping[str, TensorEntry], size: int) -> Iterator[Piece]:
    for key, entry in sorted(entries.items(), key=lambda item: item[1].start):
        start, end = entry.start, entry.start + entry.size
        while start < end:
            cut = min(end, (start // size + 1) * size)
            yield Piece(key, start, start - entry.start, cut - start)
            start = cut


class _Arrivals:
    """Tensors under way: memory is taken with the first piece, given to `finish` with the last."""

    def __init__(
        self, entries: Mapping[str, TensorEntry], device: torch.device, finish: Finish
    ) -> None:
        self._entries = entries
        self._device = device
        self._finish = finish
        self._lock = Lock()
        self._memory: dict[str, Tensor] = {}
        self._missing = {key: entry.size for key, entry in entries.items()}
        self.kept: dict[str, Tensor] = {}
        for key in [key for key, size in self._missing.items() if size == 0]:
            self._memory[key] = self._allocate(key)
            self._complete(key)

    def memory(self, piece: Piece) -> Tensor:
        """Where the bytes of a piece go; several threads may ask."""
        with self._lock:
            if piece.key not in self._memory:
                self._memory[piece.key] = self._allocate(piece.key)
            return self._memory[piece.key][piece.offset : piece.offset + piece.size]

    def account(self, pieces: Sequence[Piece]) -> None:
        """Count what has arrived, and finish what is complete."""
        for piece in pieces:
            self._missing[piece.key] -= piece.size
            if self._missing[piece.key] == 0:
                self._complete(piece.key)

    def _allocate(self, key: str) -> Tensor:
        return torch.empty(self._entries[key].size, dtype=torch.uint8, device=self._device)

    def _complete(self, key: str) -> None:
        entry = self._entries[key]
        tensor = self._memory.pop(key).view(entry.dtype).reshape(entry.shape)
        self.kept |= self._finish(key, tensor)


class _Carrier(Protocol):
    """Brings spans to where their tensors are, one at a time."""

    def carry(self, file: FileIO, span: Sequence[Piece], arrivals: _Arrivals) -> None: ...


class _Direct:
    """Reads into the memory of tensors on the CPU."""

    def carry(self, file: FileIO, span: Sequence[Piece], arrivals: _Arrivals) -> None:
        for piece in span:
            _read(file, piece.start, arrivals.memory(piece).numpy().data)


class _Staged:
    """Reads into page-locked memory and copies from there to a GPU."""

    def __init__(self, device: torch.device, size: int) -> None:
        self._device = device
        self._staging = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        self._stream = torch.cuda.Stream(device)

    def carry(self, file: FileIO, span: Sequence[Piece], arrivals: _Arrivals) -> None:
        start = span[0].start
        _read(file, start, self._staging.numpy().data[: span[-1].end - start])
        targets = [arrivals.memory(piece) for piece in span]
        # This may be memory of a finished tensor: not before the default stream, on which it was
        # finished, is through with it.
        self._stream.wait_stream(torch.cuda.default_stream(self._device))
        with torch.cuda.stream(self._stream):
            for piece, target in zip(span, targets, strict=True):
                source = self._staging[piece.start - start : piece.end - start]
                target.copy_(source, non_blocking=True)
        self._stream.synchronize()


def _read_bytes(file: FileIO, start: int, size: int) -> bytes:
    data = bytearray(size)
    _read(file, start, memoryview(data))
    return bytes(data)


def _read(file: FileIO, start: int, target: memoryview) -> None:
    """Fill `target` with the file's bytes from `start` on."""
    file.seek(start)
    while target:
        count = file.readinto(target)
        if not count:
            raise EOFError("the file is too short")
        target = target[count:]
