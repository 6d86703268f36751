"""InfiniteTalk on Modal: a fleet of GPU containers behind one gateway, with the same HTTP API.

    modal run modal_deploy.py::prepare_weights --preset standard     once, without a GPU
    modal deploy modal_deploy.py
    modal run modal_deploy.py::accept                                proves and measures one GPU
    modal run modal_deploy.py --image-path face.jpg --audio1-path voice.wav     one video

    client --proxy auth--> gateway --> intake --> Generator (GPU)
                              |          |           |
                              +---- five Dicts, one Volume ----+

What the functions do is in `infinitetalk.fleet`; here is how Modal is to run them. This file is
imported again inside every container: its top level needs the standard library, modal and
`infinitetalk.config` only. Settings are the INFINITETALK_* variables of docs/reference/settings.md,
read where `modal` is run and handed to the containers. docs/deploy-modal.md tells the whole way.
"""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import modal

from infinitetalk.config import InvalidSetting, Settings, environment_of, settings_or_exit

if TYPE_CHECKING:
    from infinitetalk.jobs.modal_host import ModalHost

STARTED = time.monotonic()
CHECKOUT = Path(__file__).parent
SRC = "/home/bentoml/bento/src"  # where the Bento's own image has it, too
MODELS = "/models"
WAIT_SECONDS = 120  # Modal turns a request that takes longer than 150 s into a redirect
GATEWAY_REQUESTS = 250  # at once in one container,
GATEWAY_WATCHERS = 100  # of which so many may only wait
DELIVER_S = 900
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"


def deployed_settings() -> Settings:
    """The settings; a fleet does not look at its GPUs to choose a preset."""
    settings = settings_or_exit()
    return replace(settings, preset="standard") if settings.preset == "auto" else settings


settings = deployed_settings()
NO_GPU = settings.gpu == ("none",)
app = modal.App("infinitetalk-api")

# Few large files, written by one container and read by many: version 1, which is no beta.
models = modal.Volume.from_name("infinitetalk-models", create_if_missing=True)
# Every container writes here: version 1 takes 5 writers at once, version 2 hundreds.
outputs = modal.Volume.from_name("infinitetalk-outputs", create_if_missing=True, version=2)
caches = modal.Volume.from_name("infinitetalk-caches", create_if_missing=True, version=2)


# -- images ------------------------------------------------------------------------------------


def images() -> tuple[modal.Image, modal.Image]:
    """The GPU functions' image and the others'; both hold the source of one Bento.

    A pushed image serves both. Else Modal builds the Bento's own Dockerfile for the GPU (without a
    GPU an image with PyTorch for the CPU), and a small image without torch for the rest.
    """
    if not modal.is_local():  # a container has its image
        return modal.Image.debian_slim(), modal.Image.debian_slim()
    if settings.image is not None:
        login = settings.registry_secret and modal.Secret.from_name(settings.registry_secret)
        pushed = modal.Image.from_registry(settings.image, secret=login or None).entrypoint([])
        return pushed, pushed
    from infinitetalk.bento import deployed_bento

    try:
        bento = deployed_bento(settings, CHECKOUT)
    except InvalidSetting as error:
        sys.exit(error.message)
    requirements, slim = CHECKOUT / "requirements", modal.Image.debian_slim(python_version="3.11")

    def with_source(image: modal.Image) -> modal.Image:
        return image.env({"PYTHONPATH": SRC}).add_local_dir(bento / "src", SRC)

    if NO_GPU:
        torch = slim.uv_pip_install("torch==2.11.0", index_url=CPU_WHEELS)
        engine = with_source(torch.uv_pip_install(requirements=[str(requirements / "image.lock")]))
    else:
        dockerfile = bento / "env" / "docker" / "Dockerfile"
        engine = modal.Image.from_dockerfile(dockerfile, context_dir=bento).entrypoint([])
    small = slim.uv_pip_install(requirements=[str(requirements / "gateway.lock")])
    return engine, with_source(small)


gpu_image, small_image = images()

# -- how the functions are run -----------------------------------------------------------------

secrets = [modal.Secret.from_name(settings.modal_secret)] if settings.modal_secret else []
environment: dict[str, str | None] = {
    **environment_of(settings),
    **({"INFINITETALK_MODAL_SECRET": settings.modal_secret} if settings.modal_secret else {}),
    "INFINITETALK_WEIGHTS": MODELS,
}
offline: dict[str, str | None] = {**environment, "HF_HUB_OFFLINE": "1"}  # serving never downloads
asking: dict[str, str | None] = {
    **offline,
    "INFINITETALK_ENGINES": "0",  # none in the gateway itself
    "INFINITETALK_WAIT_SECONDS": f"{min(settings.wait_seconds, WAIT_SECONDS):g}",
    "INFINITETALK_MAX_WATCHERS": str(min(settings.max_watchers, GATEWAY_WATCHERS)),
}
SMALL: dict[str, Any] = {"image": small_image, "env": asking, "secrets": secrets}
GPU: dict[str, Any] = {
    "image": gpu_image,
    "gpu": None if NO_GPU else list(settings.gpu) if len(settings.gpu) > 1 else settings.gpu[0],
    "cpu": 4.0,
    "memory": 16 * 1024,  # MiB; more is taken when the text encoder does not fit the GPU
    "env": offline,
    "secrets": secrets,
    "volumes": {MODELS: models.with_mount_options(read_only=True)},
    "startup_timeout": round(settings.start_minutes * 60),
}


def fleet(scratch: Path) -> "ModalHost":
    """The fleet's jobs, as this process sees them; `scratch` is a folder of its own."""
    from infinitetalk.fleet.gateway import weights_check
    from infinitetalk.jobs.modal_calls import ModalCalls
    from infinitetalk.jobs.modal_host import ModalHost

    check = weights_check(models, settings, scratch / "models")
    calls = ModalCalls(Generator().run)
    return ModalHost.open(outputs, calls, scratch / "files", require_weights=check)


def scratch() -> Path:
    """A new folder on the disk of a container, gone with it."""
    return Path(tempfile.mkdtemp(prefix="infinitetalk-"))


def ask_intake(job_id: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Have the media of a request checked; blocks. Raises StoreBusy."""
    from infinitetalk.jobs.modal_table import our_errors

    with our_errors():
        return intake.remote(job_id, dict(spec))


# -- functions ---------------------------------------------------------------------------------


@app.cls(
    **GPU,
    timeout=round(settings.attempt_hours * 3600),
    scaledown_window=settings.idle_seconds,
    min_containers=settings.gpu_min,
    buffer_containers=settings.gpu_spare or None,
    max_containers=max(settings.gpu_limit, settings.gpu_min),
)
class Generator:
    """A GPU with the model loaded; one job at a time.

    There are no retries of Modal's: it runs a call again when its container died, and `fleet` asks
    again for what ended badly, both counted as losses of the job, of which it may have three.
    """

    @modal.enter()
    def load(self) -> None:
        from infinitetalk.fleet.compiled import restore_compiled
        from infinitetalk.fleet.engine import load_engine
        from infinitetalk.jobs.model import new_id
        from infinitetalk.jobs.worker import FAULT_EXIT
        from infinitetalk.runner import Runner, choose_device

        _log_to_stderr()
        self._host, self._slot = fleet(scratch()), new_id()[:8]
        restore_compiled(caches, settings.home, choose_device(settings.device))
        self._worker = load_engine(
            self._host,
            self._slot,
            settings,
            lambda: Runner.load(settings.preset, settings),
            on_ended=lambda job: _deliver_later(self._host, job.id),
            end_process=lambda: os._exit(FAULT_EXIT),
        )

    @modal.method()
    def run(self, job_id: str) -> str:
        """Run a job; the state it is in afterwards."""
        return self._worker.run(job_id, str(modal.current_function_call_id()))

    @modal.exit()
    def leave(self) -> None:
        self._host.engines.remove(self._slot)


@app.function(**SMALL, cpu=1.0, memory=2048, timeout=900, scaledown_window=300, max_containers=4)
@modal.concurrent(max_inputs=GATEWAY_REQUESTS, target_inputs=GATEWAY_REQUESTS * 4 // 5)
@modal.asgi_app(requires_proxy_auth=True)
def gateway() -> Any:
    """The BentoML service itself, standing before the fleet's jobs."""
    folder = scratch()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # as `bentoml serve` sets it: /metrics
    from infinitetalk.fleet.gateway import stand_before
    from service import InfiniteTalk, backend

    stand_before(backend, fleet(folder), ask_intake, folder)
    return InfiniteTalk.to_asgi()  # type: ignore[attr-defined]


@app.function(**SMALL, cpu=2.0, memory=4096, timeout=900, scaledown_window=300, max_containers=20)
def intake(job_id: str, spec: dict[str, Any]) -> Mapping[str, Any]:
    """Check and normalise the files that were sent for a job."""
    import asyncio

    from infinitetalk.serving.remote_intake import check_here
    from infinitetalk.serving.sandbox import Sandbox

    host, sandbox = fleet(scratch()), Sandbox(settings)
    try:
        with host.blobs.staging() as folder:
            return asyncio.run(check_here(job_id, spec, host.blobs, sandbox, folder))
    finally:
        sandbox.close()


@app.function(**SMALL, cpu=0.25, memory=512, timeout=DELIVER_S + 60, scaledown_window=2)
def deliver(job_id: str) -> None:
    """Call webhooks and upload results that a job owes."""
    from infinitetalk.fleet.chores import deliver as bring_out

    bring_out(fleet(scratch()), settings, job_id, within_s=DELIVER_S)


@app.function(
    **SMALL,
    cpu=0.25,
    memory=512,
    timeout=600,
    scaledown_window=2,
    max_containers=1,
    schedule=modal.Period(minutes=5),
)
def tend() -> None:
    """See to jobs whose call was lost, and to deliveries that were."""
    from infinitetalk.fleet import chores

    _log_to_stderr()
    chores.tend(fleet(scratch()), settings)


@app.function(
    **SMALL,
    cpu=0.25,
    memory=1024,
    timeout=3600,
    scaledown_window=2,
    max_containers=1,
    schedule=modal.Period(hours=1),
)
def sweep() -> None:
    """Delete what is over its time."""
    from infinitetalk.fleet import chores

    _log_to_stderr()
    chores.sweep(fleet(scratch()), settings)


@app.function(
    image=gpu_image,
    env=environment,
    secrets=secrets,
    cpu=8.0,
    memory=16 * 1024,
    volumes={MODELS: models},
    timeout=24 * 3600,
    max_containers=1,
)
def prepare_weights(
    preset: str = settings.preset,
    precision: str = "fp8",
    speakers: int = 1,
    keep_sources: bool = False,
) -> None:
    """Fetch, merge and check a preset's weights on the Volume; run again, it continues."""
    from infinitetalk.fleet.weights import prepare

    prepare(preset, precision, speakers, keep_sources=keep_sources, commit=models.commit)


@app.function(**GPU, timeout=6 * 3600, max_containers=1)
def accept(preset: str = settings.preset, sweep: bool = False, seconds: float = 6.0) -> None:
    """Prove and measure one GPU of the deployed kind, and compile for all others of it."""
    from infinitetalk.acceptance.run import Plan
    from infinitetalk.fleet.acceptance import accept_here

    _log_to_stderr()
    plan = Plan(preset, seconds, sweep)
    with tempfile.TemporaryDirectory() as folder:
        accept_here(plan, settings, outputs, caches, Path(folder), started=STARTED)


@app.local_entrypoint()
def main(
    image_path: str,
    audio1_path: str,
    audio2_path: str = "",
    prompt: str = "",
    output_path: str = "outputs/my_video.mp4",
    seed: str = "",
    resolution: str = "",
    consent: str = "",
) -> None:
    """One video, from files of this machine or from URLs, without a deployment."""
    from infinitetalk.errors import InfiniteTalkError
    from infinitetalk.fleet.one_video import make_video

    media = {"image": image_path, "audio": audio1_path, "audio_2": audio2_path}
    fields = {"prompt": prompt, "seed": seed, "resolution": resolution, "consent": consent}
    with tempfile.TemporaryDirectory() as folder:
        try:
            make_video(
                {name: source for name, source in media.items() if source},
                {name: value for name, value in fields.items() if value},
                Path(output_path),
                replace(settings, engines=0),
                fleet(Path(folder)),
                ask_intake,
                Path(folder),
            )
        except InfiniteTalkError as error:
            raise SystemExit(f"{error.message} ({error.code})") from None


def _deliver_later(host: "ModalHost", job_id: str) -> None:
    """Have it done by a machine without a GPU; `tend` makes up for what goes wrong here."""
    from infinitetalk.errors import Unavailable

    try:
        if host.outbox.states(job_id):
            deliver.spawn(job_id)
    except (Unavailable, modal.exception.Error):
        logging.getLogger(__name__).warning("the deliveries of job %s wait", job_id, exc_info=True)


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
