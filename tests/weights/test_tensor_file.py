"""Reading the tensors of files that anybody may have written."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from infinitetalk.errors import ConnectionFailed, SourceFileMissing, WeightsCorrupt
from infinitetalk.weights.safetensors_header import DTYPES, LONGEST
from infinitetalk.weights.tensor_file import TensorFile, open_tensors, overlay

MATRIX = torch.arange(12.0).reshape(3, 4)


class Counting(io.BytesIO):
    """A file that counts the bytes that are asked of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.bytes_read = 0

    def readinto(self, target: Any) -> int:
        count = super().readinto(target)
        self.bytes_read += count
        return count

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.bytes_read += len(data)
        return data


def pickled(content: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(*span: int, shape: object = (2,), dtype: str = "U8") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": span}


def read_all(data: bytes, name: str) -> dict[str, Tensor]:
    with TensorFile(io.BytesIO(data), name) as file:
        return {key: file.read(key) for key in file.entries}


def same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.float(), other.float())


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_every_dtype_is_read_as_it_was_written(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {"matrix": MATRIX.to(dtype), "scalar": torch.ones((), dtype=dtype)}
    save_file(tensors, tmp_path / "x.safetensors")
    with TensorFile(tmp_path / "x.safetensors", "x.safetensors") as file:
        assert {key: entry.shape for key, entry in file.entries.items()} == {
            "matrix": (3, 4),
            "scalar": (),
        }
        assert all(same(file.read(key), tensor) for key, tensor in tensors.items())


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "whole": lambda t: t,
    "transposed": lambda t: t.t(),
    "rows": lambda t: t[1:],
    "columns": lambda t: t[:, 1:3],
    "every other": lambda t: t[::2, ::3],
    "one value for all": lambda t: t[1:2, 1:2].expand(3, 3),
    "a scalar": lambda t: t[2, 3],
    "no rows": lambda t: t[:0],
    "no columns": lambda t: t[:, :0],
    "a parameter": lambda t: nn.Parameter(t, requires_grad=False),
}


@pytest.mark.parametrize("is_zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_every_view_into_a_storage_of_a_pickle_is_read(
    view: Callable[[Tensor], Tensor], is_zipped: bool
) -> None:
    content = {"before": MATRIX.half(), "it": view(MATRIX), "whole": MATRIX}
    data = pickled(content, _use_new_zipfile_serialization=is_zipped)
    found = read_all(data, "x.pth")
    assert found["it"].is_contiguous()
    assert all(same(found[key], tensor) for key, tensor in content.items())


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth"])
def test_only_the_tensor_that_is_wanted_is_read(name: str, tmp_path: Path) -> None:
    tensors = {"large": torch.zeros(1_000_000), "small": MATRIX}
    save = save_file if name.endswith("safetensors") else torch.save
    save(tensors, tmp_path / name)
    counting = Counting((tmp_path / name).read_bytes())
    with TensorFile(counting, name) as file:
        assert torch.equal(file.read("small"), MATRIX)
    assert counting.bytes_read < 100_000


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "x.bin"])
def test_a_tensor_that_was_read_is_ones_own(name: str) -> None:
    data = (
        safetensors({"k": entry(0, 2)}, b"\1\2")
        if name == "x.safetensors"
        else pickled({"k": MATRIX}, _use_new_zipfile_serialization=name == "x.pth")
    )
    with TensorFile(io.BytesIO(data), name) as file:
        first = file.read("k").clone()
        file.read("k").zero_()
        assert torch.equal(file.read("k"), first)


def test_a_prefix_of_repackaged_files_is_left_out() -> None:
    found = read_all(pickled({"model.diffusion_model.a": MATRIX, "diffusion_model.b": MATRIX}), "x")
    assert found.keys() == {"a", "diffusion_model.b"}


def test_a_header_may_carry_notes_and_padding() -> None:
    text = json.dumps({"__metadata__": {"format": "pt"}, "k": entry(0, 2)}).encode() + b"   "
    assert read_all(safetensors(text, b"\1\2"), "x.safetensors")["k"].tolist() == [1, 2]


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "half a length": b"\1\0\0",
    "a length and no header": struct.pack("<Q", 2),
    "a header beyond the file": safetensors({"k": entry(0, 2)}, b"\1\2", length=10_000),
    "a header of 4 GB": safetensors({}, length=1 << 32),
    "a header of 2^64 bytes": safetensors({}, length=(1 << 64) - 1),
    "no JSON": safetensors(b"no json"),
    "no UTF-8": safetensors(b"\xff\xfe{}"),
    "a list": safetensors([1]),
    "a number": safetensors(1),
    "nesting without end": safetensors(b'{"k":' * 20_000),
    "an entry that is a list": safetensors({"k": [1]}, b"\1"),
    "an unknown dtype": safetensors({"k": entry(0, 2, dtype="F4")}, b"\1\2"),
    "a dtype that is a list": safetensors({"k": {**entry(0, 2), "dtype": []}}, b"\1\2"),
    "no shape": safetensors({"k": {"dtype": "U8", "data_offsets": [0, 2]}}, b"\1\2"),
    "a shape that is a number": safetensors({"k": entry(0, 2, shape=2)}, b"\1\2"),
    "a negative shape": safetensors({"k": entry(0, 2, shape=[-1, -2])}, b"\1\2"),
    "half a row": safetensors({"k": entry(0, 2, shape=[2.0])}, b"\1\2"),
    "true as a size": safetensors({"k": entry(0, 1, shape=[True])}, b"\1"),
    "one offset": safetensors({"k": entry(0)}, b"\1\2"),
    "three offsets": safetensors({"k": entry(0, 1, 2)}, b"\1\2"),
    "a negative offset": safetensors({"k": entry(-2, 0)}, b"\1\2"),
    "offsets backwards": safetensors({"k": entry(2, 0)}, b"\1\2"),
    "offsets beyond the file": safetensors({"k": entry(0, 2)}, b"\1"),
    "a shape of another size": safetensors({"k": entry(0, 2, shape=[3])}, b"\1\2"),
    "a dtype of another size": safetensors({"k": entry(0, 2, dtype="F32")}, b"\1\2"),
    "tensors that overlap": safetensors({"a": entry(0, 2), "b": entry(1, 3)}, b"\1\2\3"),
    "the same bytes twice": safetensors({"a": entry(0, 2), "b": entry(0, 2)}, b"\1\2"),
    "a gap between tensors": safetensors({"a": entry(0, 2), "b": entry(3, 5)}, bytes(5)),
    "a gap before tensors": safetensors({"k": entry(1, 3)}, bytes(3)),
    "bytes that are no tensor's": safetensors({"k": entry(0, 2)}, bytes(3)),
    "a key twice": safetensors(
        b'{"k": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},'
        b' "k": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}',
        bytes(2),
    ),
    "a key with and without a prefix": safetensors(
        {"k": entry(0, 2), "model.diffusion_model.k": entry(2, 4)}, bytes(4)
    ),
    "a pickle": pickled({"k": MATRIX}),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_safetensors_file_that_does_not_add_up_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(WeightsCorrupt, match=r"evil\.safetensors is unreadable"):
        TensorFile(io.BytesIO(data), "evil.safetensors")


def test_a_header_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", LONGEST + 1))
        file.truncate(LONGEST + 100)
    with pytest.raises(WeightsCorrupt, match="header is longer"):
        TensorFile(path, "x.safetensors")


def test_a_file_that_shrinks_after_its_header_was_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"k": MATRIX}, path)
    with TensorFile(path, "x.safetensors") as file:
        with path.open("r+b") as shrinking:
            shrinking.truncate(path.stat().st_size - 1)
        with pytest.raises(WeightsCorrupt, match="ends too early"):
            file.read("k")


class Evil:
    """What a pickle can do to whoever loads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def raw_pickle(content: object) -> bytes:
    return pickle.dumps(content)


def legacy(content: object) -> bytes:
    return pickled(content, _use_new_zipfile_serialization=False)


def with_less_data(data: bytes) -> bytes:
    """The file of `torch.save` with hardly any of the values that its pickle speaks of."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            new.writestr(item.filename, content[:8] if "/data/" in item.filename else content)
    return out.getvalue()


@pytest.mark.parametrize("name", ["x.pth", "x.bin", "x.pt"])
@pytest.mark.parametrize("save", [pickled, legacy, raw_pickle], ids=["zip", "legacy", "raw"])
def test_code_in_a_pickle_is_refused_and_never_run(
    save: Callable[[object], bytes], name: str, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    data = save({"k": MATRIX, "evil": Evil(trace)})
    with pytest.raises(WeightsCorrupt, match=f"{name} is unreadable"):
        TensorFile(io.BytesIO(data), name)
    assert not trace.exists()
    torch.load(io.BytesIO(pickled(Evil(trace))), weights_only=False)
    assert trace.exists()  # it would have


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\3\4",
        b"no pickle",
        pickled([MATRIX]),
        pickled({"k": MATRIX, "step": 3}),
        pickled({1: MATRIX}),
        pickled({"model": {"k": MATRIX}}),
        pickled({"k": MATRIX.to_sparse()}),
        pickled({"k": MATRIX})[:-40],
        pickled({"k": MATRIX})[:300],
        legacy({"k": MATRIX})[:-40],
        raw_pickle({"k": 1}),
        with_less_data(pickled({"k": torch.zeros(10_000)})),
    ],
    ids=[
        *("empty", "the start of a zip", "text", "a list", "a number", "a number as key"),
        *("nested", "sparse", "cut", "cut short", "cut legacy", "raw", "less data"),
    ],
)
def test_a_pickle_that_holds_no_plain_tensors_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(WeightsCorrupt, match=r"x\.pth is unreadable"):
        TensorFile(io.BytesIO(data), "x.pth")


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceFileMissing, match=r"x\.safetensors"):
        TensorFile(Path("/nowhere/x.safetensors"), "x.safetensors")


class Breaking(io.BytesIO):
    """A remote file whose connection breaks after the first bytes."""

    def read(self, size: int | None = -1) -> bytes:
        raise ConnectionFailed("The hub is gone.")

    def readinto(self, target: Any) -> int:
        if self.tell() > 0:
            raise ConnectionFailed("The hub is gone.")
        return super().readinto(target)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.safetensors", safetensors({"k": entry(0, 2)}, b"\1\2")),
        ("x.pth", pickled({"k": MATRIX})),
        ("x.bin", legacy({"k": MATRIX})),
    ],
)
def test_a_broken_connection_is_not_taken_for_a_broken_file(name: str, data: bytes) -> None:
    with pytest.raises(ConnectionFailed):
        TensorFile(Breaking(data), name)


@pytest.mark.parametrize("data", [pickled({"k": MATRIX}), b"broken"], ids=["good", "broken"])
def test_the_file_is_closed_whatever_becomes_of_it(data: bytes) -> None:
    file = io.BytesIO(data)
    try:
        TensorFile(file, "x.pth").__exit__(None, None, None)
    except WeightsCorrupt:
        assert data == b"broken"
    assert file.closed


def test_shards_are_one_file() -> None:
    shards = [(io.BytesIO(pickled({key: MATRIX * i})), f"{key}.pth") for i, key in enumerate("ab")]
    with open_tensors(shards) as tensors:
        assert tensors.entries.keys() == {"a", "b"}
        assert torch.equal(tensors.read("b"), MATRIX)
        lazy = tensors.lazy()["b"]
        assert lazy.shape == (3, 4)
        assert torch.equal(lazy.float(), MATRIX)
    assert all(file.closed for file, _ in shards)


def test_shards_that_hold_the_same_key_are_refused_by_name() -> None:
    shards = [(io.BytesIO(pickled({"k": MATRIX})), f"{name}.pth") for name in ("one", "two")]
    with (
        pytest.raises(WeightsCorrupt, match=r"one\.pth and two\.pth both hold k"),
        open_tensors(shards),
    ):
        pass
    assert all(file.closed for file, _ in shards)


def test_of_two_layers_the_later_counts() -> None:
    contents = ({"a": MATRIX, "b": MATRIX}, {"b": -MATRIX, "c": MATRIX})
    first, second = ([(io.BytesIO(pickled(content)), "x.pth")] for content in contents)
    with open_tensors(first) as base, open_tensors(second) as adapter:
        tensors = overlay([base, adapter])
        assert tensors.entries.keys() == {"a", "b", "c"}
        assert torch.equal(tensors.read("b"), -MATRIX)
