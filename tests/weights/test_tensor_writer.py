"""Files of tensors that are whole or absent, and writers that are killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from infinitetalk.errors import StorageFull
from infinitetalk.weights.prepared import FileEntry, file_entry
from infinitetalk.weights.safetensors_header import ALIGNMENT, DTYPES
from infinitetalk.weights.tensor_file import TensorFile
from infinitetalk.weights.tensor_writer import (
    PlannedTensor,
    TensorWriter,
    file_size,
    finished,
)

Named = Sequence[tuple[str, Tensor]]
TENSORS: Named = [
    ("z.weight", torch.arange(15.0).reshape(3, 5).to(torch.float8_e4m3fn)),
    ("z.weight_scale", torch.arange(3.0)),
    ("empty", torch.empty(0, 4)),
    ("a", torch.arange(1000.0).bfloat16()),
    ("m", torch.tensor(2.0)),
    ("b", torch.arange(2000.0).half().reshape(40, 50).t()),
]


def plan_of(tensors: Named) -> list[PlannedTensor]:
    return [PlannedTensor(name, t.dtype, tuple(t.shape)) for name, t in tensors]


PLAN = plan_of(TENSORS)


def write(target: Path, tensors: Named = TENSORS, *, sync_bytes: int = 1 << 30) -> FileEntry:
    """Write what is not there already; the entry is that of the file."""
    with TensorWriter(target, plan_of(tensors), sync_bytes=sync_bytes) as writer:
        for _, tensor in tensors[writer.done :]:
            writer.write(tensor)
        entry = writer.finish()
    assert entry == file_entry(target)
    return entry


def begin(target: Path, count: int, *, sync_bytes: int = 1) -> None:
    """Write some tensors as a process would that is killed then."""
    with TensorWriter(target, PLAN, sync_bytes=sync_bytes) as writer:
        for _, tensor in TENSORS[:count]:
            writer.write(tensor)


def done_on_opening(target: Path, plan: Sequence[PlannedTensor] = PLAN) -> int:
    with TensorWriter(target, plan) as writer:
        return writer.done


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "x.safetensors"


def test_the_library_reads_the_file(target: Path) -> None:
    write(target)
    loaded = load_file(target)
    assert loaded.keys() == dict(TENSORS).keys()
    for name, tensor in TENSORS:
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name].float(), tensor.float())


def test_tensors_lie_in_the_order_of_writing_from_an_aligned_start_on(target: Path) -> None:
    write(target)
    with safe_open(target, "pt") as file:
        assert file.offset_keys() == [name for name, _ in TENSORS]
    with TensorFile(target, target.name) as ours:
        assert ours.entries["z.weight"].start % ALIGNMENT == 0


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_every_dtype_is_written(dtype: torch.dtype, target: Path) -> None:
    tensor = torch.ones(3, 2).to(dtype)
    write(target, [("k", tensor)])
    assert load_file(target)["k"].dtype == dtype


def test_the_size_is_known_beforehand(target: Path) -> None:
    assert write(target).size == file_size(PLAN)


def test_the_file_appears_only_when_it_is_whole(target: Path) -> None:
    begin(target, len(TENSORS))
    assert not target.exists()
    write(target)
    assert {path.name for path in target.parent.iterdir()} == {target.name, "x.safetensors.journal"}


@pytest.mark.parametrize("count", range(len(TENSORS) + 1))
def test_a_killed_writer_is_continued_where_it_certainly_was(count: int, target: Path) -> None:
    undisturbed = write(target.with_name("other.safetensors"))
    begin(target, count)
    assert done_on_opening(target) >= count
    assert write(target) == undisturbed


@pytest.mark.parametrize("rest", [b"", b"half a tensor", bytes(5000)])
def test_what_may_not_be_on_disk_is_written_again(rest: bytes, target: Path) -> None:
    undisturbed = write(target.with_name("other.safetensors"))
    begin(target, 4, sync_bytes=2000)  # the fourth is the first that is synced
    part = target.with_name("x.safetensors.part")
    with part.open("ab") as file:
        file.write(rest)
    assert done_on_opening(target) == 4
    assert write(target) == undisturbed


def test_without_a_synced_point_all_is_written_again(target: Path) -> None:
    begin(target, 5, sync_bytes=1 << 30)
    assert done_on_opening(target) == 0


OTHERS: dict[str, list[PlannedTensor]] = {
    "another name": [PlannedTensor("y", PLAN[0].dtype, PLAN[0].shape), *PLAN[1:]],
    "another dtype": [*PLAN[:-1], PlannedTensor("b", torch.bfloat16, PLAN[-1].shape)],
    "another shape": [*PLAN[:-1], PlannedTensor("b", torch.float16, (40, 50))],
    "another order": [*PLAN[:-2], PLAN[-1], PLAN[-2]],
    "fewer tensors": PLAN[:-1],
}


@pytest.mark.parametrize("plan", OTHERS.values(), ids=OTHERS)
def test_a_part_of_another_plan_is_begun_anew(plan: list[PlannedTensor], target: Path) -> None:
    begin(target, 4)
    assert done_on_opening(target, plan) == 0


def test_nothing_of_a_longer_file_of_another_plan_is_left(target: Path) -> None:
    begin(target, len(TENSORS))
    write(target, TENSORS[:1])
    assert load_file(target).keys() == {"z.weight"}


@pytest.mark.parametrize("place", [0, 200, ALIGNMENT + 3, -1])
def test_a_part_that_was_altered_is_begun_anew(place: int, target: Path) -> None:
    undisturbed = write(target.with_name("other.safetensors"))
    begin(target, 4)
    flip_byte(target.with_name("x.safetensors.part"), place)
    assert done_on_opening(target) == 0
    assert write(target) == undisturbed


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"header": 1}'])
def test_a_broken_journal_is_not_believed(text: str, target: Path) -> None:
    begin(target, 4)
    target.with_name("x.safetensors.journal").write_text(text)
    assert done_on_opening(target) == 0


def test_a_part_shorter_than_its_journal_says_is_begun_anew(target: Path) -> None:
    begin(target, 4)
    part = target.with_name("x.safetensors.part")
    os.truncate(part, part.stat().st_size - 1)
    assert done_on_opening(target) == 0


def flip_byte(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_finished_file_is_known_by_its_journal(target: Path) -> None:
    assert finished(target, PLAN) is None
    begin(target, len(TENSORS))
    assert finished(target, PLAN) is None
    entry = write(target)
    assert finished(target, PLAN) == entry
    assert finished(target, PLAN[:-1]) is None


def test_a_finished_file_that_was_touched_is_hashed_and_one_altered_is_not_finished(
    target: Path,
) -> None:
    entry = write(target)
    os.utime(target, (1, 1))
    assert finished(target, PLAN) == entry
    flip_byte(target, -1)
    os.utime(target, (1, 1))
    assert finished(target, PLAN) is None


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from infinitetalk.weights.tensor_writer import PlannedTensor, TensorWriter
plan = [PlannedTensor(str(i), torch.float32, (1000,)) for i in range(10)]
with TensorWriter(Path(sys.argv[1]), plan, sync_bytes=8000) as writer:
    for i in range(6):
        writer.write(torch.full((1000,), float(i)))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_really_killed_leaves_what_it_synced(target: Path) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert run.returncode == -signal.SIGKILL
    tensors = [(str(i), torch.full((1000,), float(i))) for i in range(10)]
    assert done_on_opening(target, plan_of(tensors)) == 5
    write(target, tensors)
    assert all(torch.equal(load_file(target)[name], tensor) for name, tensor in tensors)


def fill_disk(path: Path) -> None:
    """Let every further write of this process to a file that it has open fail for want of room."""
    opened = [link for link in Path("/proc/self/fd").iterdir() if link.is_file()]
    full = os.open("/dev/full", os.O_WRONLY)
    for link in opened:
        if link.readlink() == path:
            os.dup2(full, int(link.name))
    os.close(full)


def test_a_full_disk_is_storage_full_and_can_be_continued(target: Path) -> None:
    with TensorWriter(target, PLAN, sync_bytes=1) as writer:
        writer.write(TENSORS[0][1])
        fill_disk(target.with_name("x.safetensors.part"))
        with pytest.raises(StorageFull):
            writer.write(TENSORS[1][1])
    assert done_on_opening(target) == 1


@settings(max_examples=30, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=6),
    count=st.integers(0, 6),
    sync_bytes=st.integers(0, 200),
)
def test_whatever_is_written_and_wherever_it_stops_it_ends_the_same(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[list[int]], count: int, sync_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    tensors = [(str(i), torch.full(shape, float(i))) for i, shape in enumerate(shapes)]
    undisturbed = write(folder / "whole.safetensors", tensors)
    target = folder / "x.safetensors"
    with TensorWriter(target, plan_of(tensors), sync_bytes=sync_bytes) as writer:
        for _, tensor in tensors[:count]:
            writer.write(tensor)
    assert write(target, tensors) == undisturbed
