import threading
import weakref
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from infinitetalk.weights.reading import read_header, read_tensors

CPU = torch.device("cpu")
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
TENSORS: Mapping[str, Tensor] = {
    "matrix": torch.randn(300, 7, generator=torch.Generator().manual_seed(0)),
    "half": torch.arange(1001).to(torch.bfloat16),
    "8 bits": torch.arange(-100, 101).float().to(torch.float8_e4m3fn),
    "scalar": torch.tensor(3.5),
    "nothing": torch.empty(0, 4),
    "counts": torch.arange(5),
    "flags": torch.tensor([True, False, True]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(dict(TENSORS), tmp_path / "some.safetensors")
    return tmp_path / "some.safetensors"


def unchanged(key: str, tensor: Tensor) -> dict[str, Tensor]:
    return {key: tensor}


def assert_equal(tensor: Tensor, other: Tensor) -> None:
    assert (tensor.dtype, tensor.shape) == (other.dtype, other.shape)
    assert torch.equal(tensor.float(), other.float())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
@pytest.mark.parametrize("span", [1 << 20, 512, 100, 7])
@pytest.mark.parametrize("readers", [1, 8])
def test_every_tensor_arrives_whole_however_it_is_cut(
    path: Path, device: str, span: int, readers: int
) -> None:
    found = read_tensors(
        path,
        read_header(path),
        torch.device(device),
        finish=unchanged,
        readers=readers,
        span=span,
    )
    assert found.keys() == TENSORS.keys()
    assert {tensor.device.type for tensor in found.values()} == {device}
    for key, tensor in found.items():
        assert_equal(tensor.cpu(), TENSORS[key])


def test_only_the_tensors_asked_for_are_read(path: Path) -> None:
    entries = {key: entry for key, entry in read_header(path).items() if key in ("half", "counts")}
    told: list[int] = []
    found = read_tensors(path, entries, CPU, finish=unchanged, on_bytes=told.append, span=64)
    assert found.keys() == entries.keys()
    assert sum(told) == 2 * 1001 + 8 * 5


def test_what_is_kept_of_a_tensor_is_what_finish_makes_of_it(path: Path) -> None:
    def finish(key: str, tensor: Tensor) -> dict[str, Tensor]:
        return {f"{key} twice": tensor * 2, f"{key} thrice": tensor * 3} if key == "half" else {}

    found = read_tensors(path, read_header(path), CPU, finish=finish, span=64)
    assert found.keys() == {"half twice", "half thrice"}
    assert_equal(found["half twice"], TENSORS["half"] * 2)


def test_progress_adds_up(path: Path) -> None:
    told: list[int] = []
    read_tensors(path, read_header(path), CPU, finish=unchanged, on_bytes=told.append, span=100)
    assert sum(told) == sum(tensor.nbytes for tensor in TENSORS.values())
    assert len(told) > 50


def test_whoever_is_told_is_told_in_the_calling_thread_and_in_the_order_of_the_file(
    path: Path,
) -> None:
    threads: set[threading.Thread] = set()
    finished: list[str] = []

    def finish(key: str, tensor: Tensor) -> dict[str, Tensor]:
        threads.add(threading.current_thread())
        finished.append(key)
        return {}

    entries = {key: entry for key, entry in read_header(path).items() if entry.size}
    read_tensors(
        path,
        entries,
        CPU,
        finish=finish,
        on_bytes=lambda _: threads.add(threading.current_thread()),
        span=64,
    )
    assert finished == sorted(entries, key=lambda key: entries[key].start)
    assert threads == {threading.current_thread()}


def test_memory_of_a_finished_tensor_is_let_go(path: Path) -> None:
    """So a file may be larger than the memory, if less of it is kept."""
    alive: list[int] = []
    seen: list[weakref.ref[torch.UntypedStorage]] = []

    def finish(key: str, tensor: Tensor) -> dict[str, Tensor]:
        alive.append(sum(other() is not None for other in seen))
        seen.append(weakref.ref(tensor.untyped_storage()))
        return {}

    read_tensors(path, read_header(path), CPU, finish=finish, readers=1, span=64)
    assert alive == [0] * len(TENSORS)


@pytest.mark.parametrize("cut", [1, 5000])
def test_a_file_that_ends_too_early_is_noticed(path: Path, cut: int) -> None:
    entries = read_header(path)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(EOFError):
        read_tensors(path, entries, CPU, finish=unchanged)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", EOFError),
        (b"1234567", EOFError),
        (b"not a safetensors file", ValueError),
        ((1000).to_bytes(8, "little") + b"{}", EOFError),
        ((2).to_bytes(8, "little") + b"[]", ValueError),
        ((2).to_bytes(8, "little") + b"{}x", ValueError),
    ],
    ids=["empty", "no length", "text", "cut header", "no table", "more than its tensors"],
)
def test_a_header_that_is_none_is_refused(
    path: Path, content: bytes, error: type[Exception]
) -> None:
    path.write_bytes(content)
    with pytest.raises(error):
        read_header(path)


def test_a_file_that_is_gone_is_noticed(path: Path) -> None:
    entries = read_header(path)
    path.unlink()
    with pytest.raises(OSError):
        read_tensors(path, entries, CPU, finish=unchanged)


def test_an_error_ends_the_reading(path: Path) -> None:
    finished: list[str] = []

    def finish(key: str, tensor: Tensor) -> dict[str, Tensor]:
        finished.append(key)
        if key == "8 bits":
            raise MemoryError(key)
        return {}

    entries = read_header(path)
    with pytest.raises(MemoryError):
        read_tensors(path, entries, CPU, finish=finish, readers=1, span=64)
    last = max(entries, key=lambda key: entries[key].start)
    assert "8 bits" in finished and last not in finished


def test_whoever_listens_may_stop_the_reading(path: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_tensors(path, read_header(path), CPU, finish=unchanged, on_bytes=interrupt, span=7)
    assert not [t for t in threading.enumerate() if t.name.startswith("weights-reader")]
