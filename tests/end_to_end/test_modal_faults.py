"""No accepted job is lost and none is done twice, whatever happens to the containers of a fleet."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from infinitetalk.media.video import VideoFrames
from tests.end_to_end.fleet import Fleet, deployed, modal_command
from tests.modal_control_plane.plane import ControlPlane
from tests.serving.playing import file_server

SECONDS, WINDOWS = 12.0, 11
PROMPT, SEED = "A person talks.", "7"

BREAK = '''
"""Plays a GPU that breaks: torch's attention fails as CUDA does, in one container, once."""
import os, sys
from pathlib import Path

FLAG = Path(os.environ.get("BROKEN_GPU", "/nowhere"))

class Break:
    def find_spec(self, name, path=None, target=None):
        if name != "infinitetalk.pipeline":
            return None
        sys.meta_path.remove(self)
        import torch.nn.functional as F
        attend = F.scaled_dot_product_attention
        def broken(*args, **kwargs):
            if FLAG.exists():
                FLAG.unlink()
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return attend(*args, **kwargs)
        F.scaled_dot_product_attention = broken
        return None

sys.meta_path.insert(0, Break())
'''


@pytest.fixture(scope="module")
def broken_gpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose existence breaks the next attention of any container."""
    return tmp_path_factory.mktemp("gpu") / "broken"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, broken_gpu: Path) -> Iterator[Fleet]:
    sources = tmp_path_factory.mktemp("site")
    text = BREAK.replace('os.environ.get("BROKEN_GPU", "/nowhere")', repr(str(broken_gpu)))
    (sources / "sitecustomize.py").write_text(text)
    with ControlPlane(sources) as plane, deployed(plane) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def speech(make_speech: Callable[..., Path]) -> Path:
    return make_speech(SECONDS)


@pytest.fixture
def submit(fleet: Fleet, portrait: Path, speech: Path) -> Callable[[], str]:
    return lambda: fleet.submit(portrait, speech, prompt=PROMPT, seed=SEED)


@pytest.fixture(scope="module")
def undisturbed(
    fleet: Fleet, portrait: Path, speech: Path, tmp_path_factory: pytest.TempPathFactory
) -> np.ndarray:
    task_id = fleet.submit(portrait, speech, prompt=PROMPT, seed=SEED)
    assert fleet.ended(task_id)["windows"] == WINDOWS
    return frames(fleet.result(task_id).content, tmp_path_factory.mktemp("whole"))


def frames(video: bytes, folder: Path) -> np.ndarray:
    path = folder / "video.mp4"
    path.write_bytes(video)
    with VideoFrames(path, max_megapixels=10) as film:
        return np.stack([film.frame(index).copy() for index in range(round(SECONDS * 25))])


@pytest.mark.parametrize(
    ("fault", "losses"), [("preempt", 0), pytest.param("kill", 1, marks=pytest.mark.slow)]
)
def test_a_container_that_goes_away_costs_no_finished_window(
    fleet: Fleet,
    submit: Callable[[], str],
    undisturbed: np.ndarray,
    tmp_path: Path,
    fault: str,
    losses: int,
) -> None:
    """A preemption hands the job back; after a crash it counts as lost once."""
    task_id = submit()
    outputs = fleet.plane.volumes.folder("vo-infinitetalk_outputs")
    checkpoint = outputs / "jobs" / task_id / "checkpoint.safetensors"
    fleet.plane.wait(checkpoint.exists)
    getattr(fleet.plane, fault)(fleet.engine(task_id))
    status = fleet.ended(task_id)
    assert (status["status"], status["attempt"]) == ("completed", 2)
    assert _shared(fleet, task_id).count("00000") == 1  # it was not rendered again
    assert (frames(fleet.result(task_id).content, tmp_path) == undisturbed).all()
    assert _losses(fleet, task_id) == losses


@pytest.mark.slow
def test_an_attempt_that_ran_too_long_goes_on_in_another_container(
    fleet: Fleet, submit: Callable[[], str], undisturbed: np.ndarray, tmp_path: Path
) -> None:
    """The gateway notices, because Modal runs a call that timed out no more."""
    task_id = submit()
    fleet.reach(task_id, 3)
    fleet.plane.time_out(fleet.call_of(task_id))
    status = fleet.ended(task_id)
    assert (status["status"], status["attempt"]) == ("completed", 2)
    assert (frames(fleet.result(task_id).content, tmp_path) == undisturbed).all()


@pytest.mark.slow
def test_a_broken_gpu_ends_its_container_and_the_next_one_does_the_job(
    fleet: Fleet, submit: Callable[[], str], broken_gpu: Path
) -> None:
    first = submit()
    fleet.reach(first, 2)
    engine = fleet.engine(first).pid
    broken_gpu.touch()
    following = submit()
    assert fleet.ended(first)["status"] == "completed"
    assert fleet.ended(following)["status"] == "completed"
    assert not broken_gpu.exists()
    assert engine not in {one.pid for one in fleet.plane.containers("Generator")}
    assert _losses(fleet, first) == 1
    assert _losses(fleet, following) == 0


def test_an_input_that_is_delivered_twice_gives_one_result(
    fleet: Fleet, submit: Callable[[], str], undisturbed: np.ndarray, tmp_path: Path
) -> None:
    task_id = submit()
    fleet.reach(task_id, 2)
    fleet.plane.duplicate(fleet.call_of(task_id))
    status = fleet.ended(task_id)
    assert status["status"] == "completed"
    answer = fleet.result(task_id)
    assert answer.headers["etag"] == f'"{status["video"]["sha256"]}"'
    assert (frames(answer.content, tmp_path) == undisturbed).all()


@pytest.mark.slow
def test_two_containers_share_the_work(fleet: Fleet, submit: Callable[[], str]) -> None:
    fleet.plane.allow("Generator", 2)
    jobs = [submit() for _ in range(3)]
    statuses = [fleet.ended(job) for job in jobs]
    assert {status["status"] for status in statuses} == {"completed"}
    assert {status["attempt"] for status in statuses} == {1}
    fleet.plane.allow("Generator", 1)


@pytest.mark.slow
def test_a_result_outlives_its_call_and_a_redeployment(
    fleet: Fleet, submit: Callable[[], str], undisturbed: np.ndarray, tmp_path: Path
) -> None:
    """A job that runs while a newer version is deployed is done as well."""
    finished = submit()
    fleet.ended(finished)
    fleet.plane.expire(fleet.call_of(finished))
    running = submit()
    fleet.reach(running, 2)
    done = modal_command(fleet.plane, "deploy", "modal_deploy.py", INFINITETALK_MAX_QUEUE="9")
    assert done.returncode == 0
    assert fleet.get("/v1/queue").json()["limit"] == 9  # the new gateway
    assert fleet.ended(running)["status"] == "completed"
    for task_id in (finished, running):
        assert (frames(fleet.result(task_id).content, tmp_path) == undisturbed).all()


@pytest.mark.slow
def test_webhooks_are_delivered_by_a_machine_without_a_gpu(
    portrait: Path, make_speech: Callable[..., Path]
) -> None:
    with (
        file_server() as files,
        ControlPlane() as plane,
        deployed(plane, INFINITETALK_FETCH_ALLOWED_HOSTS=files.address) as fleet,
    ):
        url = f"{files.url}/done"
        task_id = fleet.submit(portrait, make_speech(1.2), callback_url=url)
        fleet.ended(task_id)
        fleet.wait(task_id, lambda status: status["deliveries"] == {"webhook": "delivered"})
        assert [path for _, path, *_ in files.received] == ["/done"]
        assert plane.containers("deliver")


def test_an_acceptance_run_prints_its_table_and_keeps_what_was_compiled(tmp_path: Path) -> None:
    with ControlPlane() as plane:
        arguments = ("run", "modal_deploy.py::accept", "--preset", "tiny", "--seconds", "2")
        done = modal_command(plane, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        for row in ("cold_start", "forward.self_attention", "sound in sync", "passed"):
            assert row in done.stdout, done.stdout
        caches = plane.volumes.folder("vo-infinitetalk_caches")
        assert [path.suffixes[-2:] for path in caches.rglob("*.tar.gz")] == [[".tar", ".gz"]]
        reports = list(plane.volumes.folder("vo-infinitetalk_outputs").rglob("report.json"))
        assert len(reports) == 1


@pytest.mark.slow
def test_an_acceptance_run_on_a_gpu_that_computes_nan_fails(tmp_path: Path) -> None:
    broken = BREAK.replace(
        'raise RuntimeError("CUDA error: an illegal memory access was encountered")',
        "return attend(*args, **kwargs) * float('nan')",
    )
    broken = broken.replace("if FLAG.exists():\n                FLAG.unlink()", "if True:")
    assert "nan" in broken and "unlink" not in broken
    (tmp_path / "sitecustomize.py").write_text(broken)
    with ControlPlane(tmp_path) as plane:
        arguments = ("run", "modal_deploy.py::accept", "--preset", "tiny", "--seconds", "1")
        done = modal_command(plane, *arguments)
        assert done.returncode != 0
        said = done.stdout + done.stderr
        assert "generation_diverged" in said
        assert "AcceptanceFailed" in said
        assert not list(plane.volumes.folder("vo-infinitetalk_caches").rglob("*.tar.gz"))


def _shared(fleet: Fleet, task_id: str) -> list[str]:
    """Names of the windows that were put on the Volume, as often as they were. Their blocks were
    there already, from the undisturbed job, so one request is enough each time.
    """
    start = f"jobs/{task_id}/fragments/"
    return [
        Path(file.path).stem
        for request in fleet.plane.requests_of("VolumePutFiles2")
        for file in request.files
        if start in file.path
    ]


def _losses(fleet: Fleet, task_id: str) -> int:
    """From the record itself: the API does not show it."""
    import modal

    from infinitetalk.jobs.modal_store import ModalJobStore

    client = fleet.plane.client()
    names = ("jobs", "jobs-open", "jobs-ended")
    dicts = [modal.Dict.from_name(f"infinitetalk-{name}", client=client) for name in names]
    return ModalJobStore(*dicts).get(task_id).losses
