"""The tensors of a .safetensors or .pth/.bin file: header at once, tensors one by one.

A file may be local or remote: anything that seeks and reads will do, and only what is asked for is
read. Plain reads into memory of one's own, no memory map: the pages of a map count as memory.

This is the one place that reads pickles: with `weights_only=True`, so that no code of theirs runs.
A pickle of torch 1.6 and later names where in the file every tensor lies; an older one does not and
is read whole.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from infinitetalk.errors import InfiniteTalkError, SourceFileMissing, WeightsCorrupt
from infinitetalk.weights.safetensors_header import LENGTH, LONGEST, parse_header
from infinitetalk.weights.safetensors_header import TensorEntry as TensorEntry

PREFIX = "model.diffusion_model."  # that some repackaged files put before every key
_BLOCK = 64 << 20  # bytes of one read; macOS refuses more than 2 GiB at once
_ZIP = b"PK\x03\x04"
_Value = TypeVar("_Value")


class TensorFile:
    """The tensors of one file; a context manager that closes it."""

    def __init__(self, file: BinaryIO | io.IOBase | Path, name: str) -> None:
        """Read the header.

        Args:
            file: a path, or something open that seeks and reads; closed in the end either way.
            name: for messages; its suffix tells the format.

        Raises:
            SourceFileMissing: there is no such file.
            WeightsCorrupt: the header is unreadable.
        """
        self.name = name
        self._file: Any = _open(file, name) if isinstance(file, Path) else file
        self._loaded: Mapping[str, Tensor] = {}
        try:
            self.entries: Mapping[str, TensorEntry] = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def read(self, key: str) -> Tensor:
        """A tensor in memory of its own.

        Raises:
            WeightsCorrupt: the file ends before the tensor does.
        """
        if key in self._loaded:
            return self._loaded[key].clone(memory_format=torch.contiguous_format)
        entry = self.entries[key]
        values = torch.empty(entry.size, dtype=torch.uint8)
        self._read_into(entry.start, values.numpy().data)
        values = values.view(entry.dtype)
        if entry.stride is None:
            return values.reshape(entry.shape)
        return values.as_strided(entry.shape, entry.stride).contiguous()

    def _read_header(self) -> dict[str, TensorEntry]:
        size: int = self._file.seek(0, io.SEEK_END)
        if self.name.endswith(".safetensors"):
            return self._read_safetensors(size)
        if self._read_bytes(0, min(size, len(_ZIP))) == _ZIP:
            return self._read_zipped_pickle(size)
        self._loaded = self._unpickle()
        return {key: _entry(tensor, 0) for key, tensor in self._loaded.items()}

    def _read_safetensors(self, file_size: int) -> dict[str, TensorEntry]:
        if file_size < LENGTH:
            raise self._corrupt("it is too short")
        length = int.from_bytes(self._read_bytes(0, LENGTH), "little")
        if length > min(LONGEST, file_size - LENGTH):
            raise self._corrupt("its header is longer than the file may hold")
        text = self._read_bytes(LENGTH, length)
        try:
            return self._unprefixed(parse_header(text, LENGTH + length, file_size))
        except ValueError as error:
            raise self._corrupt("it is no safetensors file, or not all of it") from error

    def _read_zipped_pickle(self, file_size: int) -> dict[str, TensorEntry]:
        with FakeTensorMode():
            fakes = self._unpickle()
        starts = {key: _storage_start(fake) for key, fake in fakes.items()}
        if None in starts.values():
            raise self._corrupt("it does not tell where its tensors lie")
        entries = {key: _entry(fake, starts[key] or 0) for key, fake in fakes.items()}
        if any(entry.start + entry.size > file_size for entry in entries.values()):
            raise self._corrupt("a tensor lies beyond its end")
        return entries

    def _unpickle(self) -> dict[str, Tensor]:
        self._file.seek(0)
        try:
            content = torch.load(self._file, map_location="cpu", weights_only=True)
        except (InfiniteTalkError, MemoryError):
            raise
        except Exception as error:  # whatever a broken pickle sets off
            raise self._corrupt("it is no file of tensors alone") from error
        if not isinstance(content, dict) or not all(map(_is_plain, content.items())):
            raise self._corrupt("it holds something other than tensors")
        return self._unprefixed(content)

    def _unprefixed(self, values: Mapping[str, _Value]) -> dict[str, _Value]:
        short = {key.removeprefix(PREFIX): value for key, value in values.items()}
        if len(short) != len(values):
            raise self._corrupt("a key comes with and without a prefix")
        return short

    def _read_bytes(self, start: int, size: int) -> bytes:
        data = bytearray(size)
        self._read_into(start, memoryview(data))
        return bytes(data)

    def _read_into(self, start: int, target: memoryview) -> None:
        self._file.seek(start)
        done = 0
        while done < len(target):
            count = self._file.readinto(target[done : done + _BLOCK])
            if not count:
                raise self._corrupt("it ends too early")
            done += count

    def _corrupt(self, why: str) -> WeightsCorrupt:
        return WeightsCorrupt(f"The weights file {self.name} is unreadable: {why}.")


@dataclass(frozen=True, slots=True)
class Tensors:
    """The tensors of several files, as if of one."""

    entries: Mapping[str, TensorEntry]
    _owners: Mapping[str, TensorFile]

    def read(self, key: str) -> Tensor:
        """A tensor in memory of its own; see `TensorFile.read`."""
        return self._owners[key].read(key)

    def lazy(self) -> dict[str, "LazyTensor"]:
        """All tensors, none of them read."""
        return {key: LazyTensor(self, key) for key in self.entries}


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A tensor that is read when its values are wanted."""

    _file: Tensors
    _key: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self._file.entries[self._key].shape

    def float(self) -> Tensor:
        """The values in float32."""
        return self._file.read(self._key).float()


@contextmanager
def open_tensors(files: Iterable[tuple[BinaryIO | io.IOBase | Path, str]]) -> Iterator[Tensors]:
    """Open the files that a checkpoint is cut into, each with its name.

    Raises:
        SourceFileMissing: one of them is not there.
        WeightsCorrupt: a header is unreadable, or two files hold the same key.
    """
    with ExitStack() as stack:
        owners: dict[str, TensorFile] = {}
        for file, name in files:
            opened = stack.enter_context(TensorFile(file, name))
            twice = sorted(owners.keys() & opened.entries.keys())
            if twice:
                raise WeightsCorrupt(f"{owners[twice[0]].name} and {name} both hold {twice[0]}.")
            owners |= dict.fromkeys(opened.entries, opened)
        yield _joined(owners)


def overlay(layers: Iterable[Tensors]) -> Tensors:
    """The tensors of all layers; where several hold a key, that of the last."""
    return _joined({key: owner for layer in layers for key, owner in layer._owners.items()})


def _joined(owners: Mapping[str, TensorFile]) -> Tensors:
    return Tensors({key: owner.entries[key] for key, owner in owners.items()}, owners)


def _open(path: Path, name: str) -> BinaryIO:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise SourceFileMissing(f"The weights file {name} cannot be opened.") from error


def _is_plain(item: tuple[Any, Any]) -> bool:
    key, value = item
    return isinstance(key, str) and isinstance(value, Tensor) and value.layout is torch.strided


def _storage_start(fake: Tensor) -> int | None:
    """First byte in the file of what a tensor is a part of; torch tells nobody else so far."""
    return getattr(fake.untyped_storage(), "_checkpoint_offset", None)


def _entry(tensor: Tensor, storage_start: int) -> TensorEntry:
    """Where a tensor lies whose storage begins at byte `storage_start`."""
    reach = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    values = reach + 1 if tensor.numel() else 0
    return TensorEntry(
        dtype=tensor.dtype,
        shape=tuple(tensor.shape),
        stride=None if tensor.is_contiguous() else tensor.stride(),
        start=storage_start + int(tensor.storage_offset()) * tensor.dtype.itemsize,
        size=values * tensor.dtype.itemsize,
    )
