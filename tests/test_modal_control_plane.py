"""The fake control plane, as the real client, command line and container runtime see it."""

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import modal
import psutil
import pytest
from grpclib import Status

from tests.modal_control_plane.containers import Container
from tests.modal_control_plane.plane import ControlPlane

Begin = Callable[[str], tuple[Any, Container]]

pytest_plugins = ["tests.modal_control_plane.fixtures"]

APP = """
import concurrent.futures
import os
import pathlib
import threading

import modal

threads = concurrent.futures.ThreadPoolExecutor()
app = modal.App("sample")
here = pathlib.Path(__file__).parent
models = modal.Volume.from_name("models", create_if_missing=True)
cache = modal.Volume.from_name("cache", create_if_missing=True)
outputs = modal.Volume.from_name("outputs", create_if_missing=True, version=2)
state = modal.Dict.from_name("state", create_if_missing=True)
gpu_image = cpu_image = modal.Image.debian_slim()
if modal.is_local():
    made = here / "image"
    gpu_image = modal.Image.from_dockerfile(made / "Dockerfile", context_dir=made).entrypoint([])
    cpu_image = cpu_image.uv_pip_install("starlette").add_local_dir(made, "/root/image")


@app.cls(
    image=gpu_image,
    gpu=["L40S", "H100"],
    retries=1,
    env={"WEIGHTS": "/models/tiny"},
    volumes={
        "/models": models.with_mount_options(read_only=True),
        "/cache": cache.with_mount_options(sub_path="/l40s"),
        "/outputs": outputs,
    },
)
class Generator:
    @modal.enter()
    def load(self):
        if state.get("broken"):
            raise ValueError("broken")
        self.weights = pathlib.Path(os.environ["WEIGHTS"]).read_text()

    @modal.method()
    def run(self, way=""):
        # Not here: a cancellation that finds this thread in a call of the client is lost.
        tell = threads.submit(state.put, "started", True, skip_if_exists=True)
        is_first = tell.result()
        if way == "fail":
            raise ValueError("failed")
        if is_first and way == "exit":
            os._exit(70)
        if is_first and way == "stay":
            threading.Event().wait()
        while is_first and way == "linger" and "go on" not in state:
            threading.Event().wait(0.02)
        return self.weights, len(way), os.getpid()


@app.function(
    image=cpu_image,
    schedule=modal.Period(minutes=5),
    secrets=[modal.Secret.from_name("huggingface", required_keys=["HF_TOKEN"])],
)
def tend():
    return Generator().run.spawn(os.environ["HF_TOKEN"]).object_id


@app.function(image=cpu_image)
@modal.concurrent(max_inputs=20)
@modal.asgi_app(requires_proxy_auth=True)
def gateway():
    return None


@app.local_entrypoint()
def main(word: str):
    print(Generator().run.remote(word)[:2])
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app")
    (folder / "image").mkdir()
    (folder / "image/Dockerfile").write_text("FROM python:3.11-slim\nCOPY . /sources\n")
    (folder / "sample_app.py").write_text(APP)
    return folder / "sample_app.py"


def run_modal(plane: ControlPlane, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modal", *map(str, arguments)]
    environment = {**os.environ, **plane.environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def end_all(plane: ControlPlane) -> None:
    for container in plane.containers("Generator"):
        plane.kill(container)
    plane.wait(lambda: not plane.containers("Generator"))


@pytest.fixture(scope="module")
def deployed(file: Path) -> Iterator[ControlPlane]:
    with ControlPlane(file.parent) as plane:
        plane.secrets["huggingface"] = {"HF_TOKEN": "hf"}
        done = run_modal(plane, "deploy", file)
        assert done.returncode == 0, done.stdout + done.stderr
        (plane.volumes.folder("models") / "tiny").write_text("weights")
        yield plane


@pytest.fixture(scope="module")
def client(deployed: ControlPlane) -> modal.Client:
    return deployed.client()


@pytest.fixture
def state(client: modal.Client) -> Iterator[modal.Dict]:
    entries = modal.Dict.from_name("state", create_if_missing=True, client=client)
    yield entries
    for key in list(entries.keys()):
        entries.pop(key)


@pytest.fixture
def spawn(client: modal.Client, state: modal.Dict) -> Callable[..., Any]:
    return modal.Cls.from_name("sample", "Generator", client=client)().run.spawn


@pytest.fixture
def spawn_and_see(deployed: ControlPlane, spawn: Callable[..., Any]) -> Iterator[Begin]:
    """A call that has begun, and where it runs; it runs no longer than the test."""

    def begin(way: str) -> tuple[Any, Container]:
        before = len(deployed.requests_of("DictUpdate"))
        call = spawn(way)
        deployed.wait(lambda: len(deployed.requests_of("DictUpdate")) > before)
        (container,) = (one for one in deployed.containers("Generator") if one.running)
        return call, container

    yield begin
    for container in deployed.containers("Generator"):
        if container.running:
            deployed.kill(container)


@pytest.fixture(scope="module")
def stored(control_plane: ControlPlane) -> dict[str, Any]:
    """Arguments with which an object is made where nothing is deployed."""
    return {"create_if_missing": True, "client": control_plane.client()}


@pytest.fixture
def volume(request: pytest.FixtureRequest, stored: dict[str, Any]) -> modal.Volume:
    return modal.Volume.from_name(f"v{hash(request.node.name)}", version=2, **stored)


def test_a_dict_creates_an_entry_only_once_when_told_so(stored: dict[str, Any]) -> None:
    entries = modal.Dict.from_name("once", **stored)
    first = entries.put("a", {"x": 1}, skip_if_exists=True)
    second = entries.put("a", {"x": 2}, skip_if_exists=True)
    assert (first, second, entries["a"], entries.len()) == (True, False, {"x": 1}, 1)


def test_a_dict_without_the_key_says_so(stored: dict[str, Any]) -> None:
    entries = modal.Dict.from_name("keys", **stored)
    entries.update({"a": 1, "b": None})
    assert entries.pop("a") == 1
    assert "a" not in entries
    assert list(entries.items()) == [("b", None)]
    assert (list(entries.keys()), list(entries.values())) == (["b"], [None])
    with pytest.raises(KeyError):
        entries.pop("a")


def test_what_does_not_exist_is_not_found(stored: dict[str, Any]) -> None:
    for kind in (modal.Dict, modal.Volume, modal.Secret):
        with pytest.raises(modal.exception.NotFoundError):
            kind.from_name("missing", client=stored["client"]).hydrate()


@pytest.mark.parametrize(
    "data",
    [b"", b"short", b"zeros at the end" + bytes(1000), bytes(9 * 2**20), b"abcdefgh" * 2**21],
    ids=["empty", "short", "zeros", "two blocks of zeros", "two blocks"],
)
def test_a_file_comes_back_as_it_was_uploaded(volume: modal.Volume, data: bytes) -> None:
    with volume.batch_upload() as batch:
        batch.put_file(io.BytesIO(data), "/a/b.bin")
    assert b"".join(volume.read_file("a/b.bin")) == data


def test_a_volume_lists_copies_and_removes(volume: modal.Volume) -> None:
    with volume.batch_upload() as batch:
        batch.put_file(io.BytesIO(b"1"), "/jobs/1/one")
        batch.put_file(io.BytesIO(b"22"), "/jobs/2/two")
    volume.copy_files(["jobs/2/two"], "jobs/1")
    volume.remove_file("/jobs/2", recursive=True)
    listed = {entry.path: entry.size for entry in volume.listdir("/", recursive=True)}
    assert listed == {"jobs": 0, "jobs/1": 0, "jobs/1/one": 1, "jobs/1/two": 2}
    with pytest.raises(FileNotFoundError):
        volume.remove_file("/jobs/2/two")


def test_a_file_is_overwritten_only_by_force(volume: modal.Volume) -> None:
    for content, force in ((b"old", False), (b"new", True)):
        with volume.batch_upload(force=force) as batch:
            batch.put_file(io.BytesIO(content), "/file")
    assert b"".join(volume.read_file("file")) == b"new"
    with pytest.raises(FileExistsError), volume.batch_upload() as batch:
        batch.put_file(io.BytesIO(b"newer"), "/file")


def test_a_file_that_is_being_read_stays_as_it_was(volume: modal.Volume) -> None:
    data = b"abcdefgh" * 2**22
    with volume.batch_upload() as batch:
        batch.put_file(io.BytesIO(data), "/file")
    blocks: Iterator[bytes] = volume.read_file("file")
    first = next(blocks)
    volume.remove_file("/file")
    assert first + b"".join(blocks) == data


def test_the_client_gives_up_on_an_rpc_that_keeps_failing(
    control_plane: ControlPlane, stored: dict[str, Any]
) -> None:
    entries = modal.Dict.from_name("failing", **stored)
    entries["a"] = 1
    control_plane.fail("DictGet", Status.UNAVAILABLE, times=1)
    assert entries["a"] == 1
    control_plane.fail("DictGet", Status.UNAVAILABLE, times=4)
    with pytest.raises(modal.exception.ServiceError):
        entries.get("a")
    assert entries.get("a") == 1


def test_a_deployment_is_kept_as_it_was_asked_for(deployed: ControlPlane) -> None:
    asked = deployed.requests_of("FunctionCreate")
    named = {(one.function or one.function_data).function_name: one for one in asked}
    ranked = named[""].function_data.ranked_functions
    gpus = [one.function.resources.gpu_config.gpu_type for one in ranked]
    mounts = [(one.mount_path, one.volume_id) for one in ranked[0].function.volume_mounts]
    assert gpus == ["L40S", "H100"]
    assert ("/models", "vo-models") in mounts
    assert named["gateway"].function.webhook_config.requires_proxy_auth


def test_modal_run_shows_what_a_container_answered(deployed: ControlPlane, file: Path) -> None:
    done = run_modal(deployed, "run", file, "--word", "four")
    assert "('weights', 4)" in done.stdout, done.stdout + done.stderr
    assert len(deployed.requests_of("AppClientDisconnect")) == 1


@pytest.mark.parametrize("warm", [0, 1], ids=["no container", "a warm one"])
def test_a_held_call_is_pending(
    deployed: ControlPlane, client: modal.Client, spawn: Callable[..., Any], warm: int
) -> None:
    end_all(deployed)
    if warm:
        spawn().get(timeout=30)
    deployed.hold("Generator")
    call = spawn("word")
    modal.Function.from_name("sample", "tend", client=client).remote()  # others are served
    with pytest.raises(TimeoutError):
        call.get(timeout=0)
    assert len(deployed.containers("Generator")) == warm
    deployed.release("Generator")
    assert call.get(timeout=30)[:2] == ("weights", 4)


def test_a_container_serves_one_input_after_the_other(spawn: Callable[..., Any]) -> None:
    first, second = spawn("a"), spawn("b" * 20_000)
    assert first.get(timeout=30)[2] == second.get(timeout=30)[2]


def test_a_redeployment_replaces_warm_containers(
    deployed: ControlPlane, file: Path, spawn: Callable[..., Any]
) -> None:
    old = spawn().get(timeout=30)[2]
    assert run_modal(deployed, "deploy", file).returncode == 0
    assert spawn().get(timeout=30)[2] != old
    deployed.wait(lambda: [one.pid for one in deployed.containers("Generator")] != [old])


def test_an_error_comes_back_after_the_retries(
    deployed: ControlPlane, spawn: Callable[..., Any]
) -> None:
    before = len(deployed.requests_of("FunctionPutOutputs"))
    with pytest.raises(ValueError, match="failed"):
        spawn("fail").get(timeout=30)
    assert len(deployed.requests_of("FunctionPutOutputs")) - before == 2


def test_an_error_of_the_start_comes_back(
    deployed: ControlPlane, state: modal.Dict, spawn: Callable[..., Any]
) -> None:
    end_all(deployed)
    state["broken"] = True
    with pytest.raises(ValueError, match="broken"):
        spawn().get(timeout=30)


@pytest.mark.parametrize("way", ["kill", "preempt"])
def test_an_input_runs_again_when_its_container_ends(
    deployed: ControlPlane, spawn_and_see: Begin, way: str
) -> None:
    call, container = spawn_and_see("stay")
    getattr(deployed, way)(container)
    weights, _, pid = call.get(timeout=30)
    assert weights == "weights"
    assert pid != container.pid


def test_an_input_runs_again_when_its_container_exits(spawn: Callable[..., Any]) -> None:
    assert spawn("exit").get(timeout=30)[0] == "weights"


def test_an_input_delivered_twice_has_one_result(
    deployed: ControlPlane, state: modal.Dict, spawn_and_see: Begin
) -> None:
    call, first = spawn_and_see("linger")
    deployed.duplicate(call.object_id)
    answer = call.get(timeout=30)
    assert {one.pid for one in deployed.containers("Generator")} == {first.pid, answer[2]}
    state["go on"] = True
    deployed.wait(lambda: not first.running)
    assert call.get(timeout=0) == answer
    deployed.kill(first)


@pytest.mark.parametrize("terminate", [False, True])
def test_a_canceled_call_ends(
    deployed: ControlPlane, spawn_and_see: Begin, terminate: bool
) -> None:
    call, container = spawn_and_see("stay")
    call.cancel(terminate_containers=terminate)
    with pytest.raises(modal.exception.RemoteError):
        call.get(timeout=30)
    if terminate:
        deployed.wait(lambda: container not in deployed.containers("Generator"))
    assert (container in deployed.containers("Generator")) is not terminate


def test_a_call_that_took_too_long_says_so(deployed: ControlPlane, spawn_and_see: Begin) -> None:
    call, container = spawn_and_see("stay")
    deployed.time_out(call.object_id)
    with pytest.raises(modal.exception.FunctionTimeoutError):
        call.get(timeout=0)
    deployed.wait(lambda: container not in deployed.containers("Generator"))


def test_two_containers_work_at_once_when_they_may(
    deployed: ControlPlane, spawn_and_see: Begin, spawn: Callable[..., Any]
) -> None:
    call, container = spawn_and_see("stay")
    deployed.allow("Generator", 2)
    assert spawn().get(timeout=30)[2] != container.pid
    deployed.allow("Generator", 1)
    deployed.time_out(call.object_id)


def test_a_result_that_is_no_longer_kept_says_so(
    deployed: ControlPlane, client: modal.Client, spawn: Callable[..., Any]
) -> None:
    call = spawn()
    call.get(timeout=30)
    deployed.expire(call.object_id)
    for call_id in (call.object_id, "fc-unknown"):
        with pytest.raises(modal.exception.OutputExpiredError):
            modal.FunctionCall.from_id(call_id, client=client).get(timeout=0)


def test_a_container_may_call_another_function(
    deployed: ControlPlane, client: modal.Client
) -> None:
    call_id = modal.Function.from_name("sample", "tend", client=client).remote()
    call = modal.FunctionCall.from_id(call_id, client=client)
    assert call.get(timeout=30)[:2] == ("weights", len("hf"))


def test_nothing_is_left_when_the_plane_has_closed(file: Path) -> None:
    before = set(threading.enumerate())
    with ControlPlane(file.parent) as plane:
        plane.secrets["huggingface"] = {"HF_TOKEN": "hf"}
        run_modal(plane, "deploy", file)
        client = plane.client()
        folder = plane.volumes.folder("models")
        (folder / "tiny").write_text("weights")
        modal.Cls.from_name("sample", "Generator", client=client)().run.remote()
        (container,) = plane.containers("Generator")
        os.kill(container.pid, signal.SIGSTOP)  # it can not end by itself
    assert not psutil.pid_exists(container.pid)
    assert not folder.exists()
    assert not set(threading.enumerate()) - before
