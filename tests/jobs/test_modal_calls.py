"""What becomes of a call, as Modal's client tells it: every way a call can end."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import modal
import pytest
from grpclib import Status

from infinitetalk.errors import StoreBusy
from infinitetalk.jobs.modal_calls import ModalCalls, Outcome
from tests.modal_control_plane.plane import ControlPlane

FUNCTION = "work"
TRIES = 4  # of Modal's client, for one request
APP = """
import threading

import modal

from infinitetalk.errors import RenderFailed

app = modal.App("calls")
errors = {"ours": RenderFailed("It broke."), "of the system": FileNotFoundError("weights")}


@app.function()
def work(job_id):
    if job_id == "long":
        threading.Event().wait()
    if job_id in errors:
        raise errors[job_id]
    return job_id
"""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    file = tmp_path_factory.mktemp("app") / "calls_app.py"
    file.write_text(APP)
    with ControlPlane(file.parent) as plane:
        command = [sys.executable, "-m", "modal", "deploy", str(file)]
        environment = {**os.environ, **plane.environment, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        yield plane


@pytest.fixture(scope="module")
def client(plane: ControlPlane) -> modal.Client:
    return plane.client()


@pytest.fixture(scope="module")
def calls(client: modal.Client) -> ModalCalls:
    return ModalCalls(modal.Function.from_name("calls", FUNCTION, client=client), client)


@pytest.fixture
def finish(calls: ModalCalls, client: modal.Client) -> Callable[[str], str]:
    """A call that has returned or raised."""

    def run(job_id: str) -> str:
        call = calls.spawn(job_id)
        try:
            modal.FunctionCall.from_id(call, client).get(timeout=30)
        except Exception as error:
            assert not isinstance(error, TimeoutError)
        return call

    return run


@pytest.fixture
def held(plane: ControlPlane) -> Iterator[None]:
    """No container starts meanwhile."""
    plane.hold(FUNCTION)
    yield
    plane.release(FUNCTION)


def begun(plane: ControlPlane, calls: ModalCalls) -> str:
    """A call that a container works at."""
    call = calls.spawn("long")
    plane.wait(lambda: any(one.running for one in plane.containers(FUNCTION)))
    return call


def test_a_call_that_returned_has_ended(calls: ModalCalls, finish: Callable[[str], str]) -> None:
    assert calls.outcome(finish("short")) is Outcome.ENDED


@pytest.mark.parametrize("error", ["ours", "of the system"])
def test_a_call_that_raised_has_ended_whatever_it_raised(
    calls: ModalCalls, finish: Callable[[str], str], error: str
) -> None:
    """An OSError of a container is no sign that Modal cannot be reached."""
    assert calls.outcome(finish(error)) is Outcome.ENDED


@pytest.mark.usefixtures("held")
def test_a_call_that_waits_counts_as_running_until_it_is_taken_back(calls: ModalCalls) -> None:
    call = calls.spawn("short")
    assert calls.outcome(call) is Outcome.RUNNING
    calls.stop(call, with_container=False)
    assert calls.outcome(call) is Outcome.ENDED


def test_a_call_that_is_worked_at_ends_with_its_container(
    plane: ControlPlane, calls: ModalCalls
) -> None:
    call = begun(plane, calls)
    assert calls.outcome(call) is Outcome.RUNNING
    (container,) = plane.containers(FUNCTION)
    calls.stop(call, with_container=True)
    assert calls.outcome(call) is Outcome.ENDED
    plane.wait(lambda: container not in plane.containers(FUNCTION))


def test_a_call_whose_container_died_is_run_again(plane: ControlPlane, calls: ModalCalls) -> None:
    call = begun(plane, calls)
    (container,) = plane.containers(FUNCTION)
    plane.kill(container)
    plane.wait(lambda: container not in plane.containers(FUNCTION))
    assert calls.outcome(call) is Outcome.RUNNING
    calls.stop(call, with_container=True)


def test_a_call_that_took_too_long_says_so(plane: ControlPlane, calls: ModalCalls) -> None:
    call = begun(plane, calls)
    plane.time_out(call)
    assert calls.outcome(call) is Outcome.TIMED_OUT


@pytest.mark.usefixtures("held")
def test_a_call_that_modal_forgot_has_ended(plane: ControlPlane, calls: ModalCalls) -> None:
    call = calls.spawn("short")
    plane.expire(call)
    assert calls.outcome(call) is Outcome.ENDED
    assert calls.outcome("fc-unknown") is Outcome.ENDED


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(
    ("rpc", "act"),
    [
        ("FunctionMap", lambda calls, call: calls.spawn("short")),
        ("FunctionGetOutputs", lambda calls, call: calls.outcome(call)),
        ("FunctionCallCancel", lambda calls, call: calls.stop(call, with_container=False)),
    ],
    ids=["spawn", "outcome", "stop"],
)
def test_what_cannot_be_asked_is_not_guessed(
    plane: ControlPlane, calls: ModalCalls, rpc: str, act: Callable[[ModalCalls, str], object]
) -> None:
    call = calls.spawn("short")
    plane.fail(rpc, Status.INTERNAL, times=TRIES)
    with pytest.raises(StoreBusy):
        act(calls, call)
    calls.stop(call, with_container=False)
