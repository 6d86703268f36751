"""A .safetensors file written tensor by tensor, that a killed process can continue.

The header is known beforehand, so the file is written from its first byte to its last and hashed on
the way. Tensors lie in the order in which they are written, the first at a multiple of 4096 bytes.

    X.safetensors.part          what is written so far
    X.safetensors.journal       how much of it certainly is on disk, and the sha256 of that much
    X.safetensors               the whole file; the journal then holds its size and hash
"""

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import torch
from torch import Tensor

from infinitetalk.weights.prepared import FileEntry, file_entry
from infinitetalk.weights.safetensors_header import encode_header
from infinitetalk.weights.storage import room_or_storage_full, sync, write_durably

SYNC_BYTES = 1 << 30  # that are written between two points a killed process continues from
_BLOCK = 64 << 20  # bytes of one write; macOS refuses more than 2 GiB at once


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """One tensor of a file that is going to be written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """In bytes."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class _Journal:
    """What certainly is on disk."""

    header: str  # sha256 of the header: which plan the file follows
    size: int  # bytes from the beginning
    sha256: str  # of those
    modified_ns: int  # time of the file when it had just those


class TensorWriter:
    """Writes the tensors of a plan in its order; a context manager that closes the file.

    `done` tensors may be there already when it is opened: the caller goes on with `plan[done]`. A
    part that follows another plan, or that was altered, is begun anew.
    """

    def __init__(
        self, target: Path, plan: Sequence[PlannedTensor], *, sync_bytes: int = SYNC_BYTES
    ) -> None:
        self._target, self._plan, self._sync_bytes = target, plan, sync_bytes
        self._header = _header(plan)
        self._part = target.with_name(f"{target.name}.part")
        self._part.touch()
        self._file: BinaryIO = self._part.open("r+b", buffering=0)
        self._hash = hashlib.sha256()
        self.position = self._synced = self.done = 0  # position in bytes, done in tensors
        if not self._continue():
            self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def write(self, tensor: Tensor) -> None:
        """Write the next tensor of the plan.

        Raises:
            StorageFull: the disk has no room; what is written so far can be continued.
        """
        planned = self._plan[self.done]
        assert (tensor.dtype, tuple(tensor.shape)) == (planned.dtype, planned.shape), planned.name
        self._append(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
        self.done += 1
        if self.position - self._synced >= self._sync_bytes:
            self._sync()

    def finish(self) -> FileEntry:
        """Give the whole file its name."""
        assert self.done == len(self._plan)
        self._sync()
        self._part.replace(self._target)
        sync(self._target.parent)
        return FileEntry(self.position, self._hash.hexdigest())

    def _begin(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._append(memoryview(self._header))

    def _continue(self) -> bool:
        """Go to the end of what an earlier process certainly wrote; False: there is no such end."""
        journal = _read_journal(self._target, self._header)
        if journal is None:
            return False
        hashed = _hash_beginning(self._file, journal.size)
        if hashed.hexdigest() != journal.sha256:
            return False
        self._file.truncate(journal.size)
        self._hash, self.position, self._synced = hashed, journal.size, journal.size
        ends = accumulate((planned.size for planned in self._plan), initial=len(self._header))
        self.done = bisect_right(list(ends), journal.size) - 1
        return True

    def _append(self, data: memoryview) -> None:
        with room_or_storage_full():
            for start, stop in _blocks(len(data)):
                block = data[start:stop]
                self._hash.update(block)
                while block:
                    block = block[self._file.write(block) :]
        self.position += len(data)

    def _sync(self) -> None:
        with room_or_storage_full():
            os.fsync(self._file.fileno())
            modified = os.fstat(self._file.fileno()).st_mtime_ns
            digest = self._hash.hexdigest()
            journal = _Journal(_digest(self._header), self.position, digest, modified)
            write_durably(_journal(self._target), json.dumps(asdict(journal)))
        self._synced = self.position


def finished(target: Path, plan: Sequence[PlannedTensor]) -> FileEntry | None:
    """Size and hash of a file that was written after this plan and is unaltered; None otherwise."""
    header = _header(plan)
    journal = _read_journal(target, header)
    if journal is None or not target.is_file():
        return None
    entry = FileEntry(journal.size, journal.sha256)
    is_as_left = (target.stat().st_size, target.stat().st_mtime_ns) == (
        journal.size,
        journal.modified_ns,
    )
    return entry if is_as_left or file_entry(target) == entry else None


def file_size(plan: Sequence[PlannedTensor]) -> int:
    """Bytes of the file."""
    return len(_header(plan)) + sum(planned.size for planned in plan)


def _header(plan: Sequence[PlannedTensor]) -> bytes:
    return encode_header((planned.name, planned.dtype, planned.shape) for planned in plan)


def _journal(target: Path) -> Path:
    return target.with_name(f"{target.name}.journal")


def _read_journal(target: Path, header: bytes) -> _Journal | None:
    try:
        journal = _Journal(**json.loads(_journal(target).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return journal if journal.header == _digest(header) else None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _hash_beginning(file: BinaryIO, size: int) -> "hashlib._Hash":
    """Hash the first bytes of a file and stay behind them."""
    hashed = hashlib.sha256()
    file.seek(0)
    for start, stop in _blocks(size):
        hashed.update(file.read(stop - start))
    return hashed


def _blocks(size: int) -> list[tuple[int, int]]:
    return list(pairwise([*range(0, size, _BLOCK), size]))
