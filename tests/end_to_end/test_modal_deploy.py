"""What the real `modal` CLI makes of modal_deploy.py, by what it asks of the control plane."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from infinitetalk.bento import current_bento
from infinitetalk.config import Settings, variable_name
from infinitetalk.media.video import VideoFrames
from tests.end_to_end.fleet import modal_command
from tests.modal_control_plane.plane import ControlPlane
from tests.running_server import ROOT

SMALL = ("gateway", "intake", "deliver", "tend", "sweep")
GPU = ("Generator.*", "accept")
EVERYWHERE = (*SMALL, *GPU, "prepare_weights")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


class Deployment:
    """The functions of one `modal deploy`."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.functions = {}
        for request in plane.requests_of("FunctionCreate"):
            data = request.function_data
            definitions = [one.function for one in data.ranked_functions] or [request.function]
            name = data.function_name or request.function.function_name
            self.functions[name] = definitions

    def first(self, name: str) -> Any:
        return self.functions[name][0]

    def gpus(self, name: str) -> list[str]:
        return [one.resources.gpu_config.gpu_type for one in self.functions[name]]

    def volumes(self, name: str) -> dict[str, bool]:
        """Mount path -> whether it is read-only."""
        return {one.mount_path: one.read_only for one in self.first(name).volume_mounts}


def deploy(**variables: str) -> Deployment:
    with ControlPlane() as plane:
        plane.secrets["team"] = {"INFINITETALK_API_KEYS": "k"}
        done = modal_command(plane, "deploy", "modal_deploy.py", **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return Deployment(plane)


@pytest.fixture(scope="module")
def standard() -> Deployment:
    return deploy(INFINITETALK_PRESET="standard", INFINITETALK_MODAL_SECRET="team")


def test_every_function_is_there(standard: Deployment) -> None:
    assert set(standard.functions) == set(EVERYWHERE)


def test_only_generator_and_accept_have_a_gpu(standard: Deployment) -> None:
    assert {name: standard.gpus(name) for name in GPU} == {name: ["L40S"] for name in GPU}
    for name in (*SMALL, "prepare_weights"):
        assert standard.gpus(name) == [""], name


def test_weights_are_read_only_but_for_their_preparation(standard: Deployment) -> None:
    assert [standard.volumes(name) for name in GPU] == [{"/models": True}] * 2
    assert standard.volumes("prepare_weights") == {"/models": False}
    assert [standard.volumes(name) for name in SMALL] == [{}] * len(SMALL)


def test_every_web_address_asks_for_a_proxy_token(standard: Deployment) -> None:
    addresses = {
        name: one.webhook_config.requires_proxy_auth
        for name, (one, *_) in standard.functions.items()
        if one.webhook_config.type
    }
    assert addresses == {"gateway": True}


def test_time_memory_and_scale_are_bounded(standard: Deployment) -> None:
    generator = standard.first("Generator.*")
    assert generator.timeout_secs == 12 * 3600
    assert generator.startup_timeout_secs == 20 * 60
    assert generator.resources.memory_mb == 16 * 1024
    assert generator.autoscaler_settings.max_containers == 10
    assert generator.autoscaler_settings.min_containers == 0
    assert generator.autoscaler_settings.scaledown_window == 120
    for name in EVERYWHERE:
        assert standard.first(name).timeout_secs > 0, name


def test_a_gpu_function_is_never_tried_again_by_modal_itself(standard: Deployment) -> None:
    """A crashed container's input is run again anyway; what raised is counted by our own rows."""
    assert {standard.first(name).retry_policy.retries for name in EVERYWHERE} == {0}


def test_the_gateway_answers_many_requests_at_once_and_a_gpu_one(standard: Deployment) -> None:
    assert standard.first("gateway").max_concurrent_inputs == 250
    assert standard.first("Generator.*").max_concurrent_inputs in (0, 1)


def test_chores_are_on_a_schedule(standard: Deployment) -> None:
    periods = {name: standard.first(name).schedule.period for name in ("tend", "sweep")}
    assert (periods["tend"].minutes, periods["sweep"].hours) == (5, 1)


def test_volumes_have_the_versions_that_were_chosen(standard: Deployment) -> None:
    asked = standard.plane.requests_of("VolumeGetOrCreate")
    versions = {one.deployment_name: one.version for one in asked}
    assert versions["infinitetalk-models"] in (0, 1)
    assert set(versions) <= {"infinitetalk-models", "infinitetalk-outputs", "infinitetalk-caches"}


def test_secrets_are_named_and_never_sent(standard: Deployment) -> None:
    named = [
        one.deployment_name
        for one in standard.plane.requests_of("SecretGetOrCreate")
        if one.deployment_name
    ]
    sent = {
        name for one in standard.plane.requests_of("SecretGetOrCreate") for name in one.env_dict
    }
    assert set(named) == {"team"}
    assert "INFINITETALK_PRESET" in sent
    secrets = {variable_name(item) for item in fields(Settings) if not item.repr}
    assert len(secrets) == 5
    assert not sent & secrets


def test_neither_weights_nor_secrets_of_this_checkout_are_uploaded(standard: Deployment) -> None:
    files = {
        one.filename
        for request in standard.plane.requests_of("MountGetOrCreate")
        for one in request.files
    }
    assert any(name.endswith("modal_deploy.py") for name in files)
    forbidden = [
        name
        for name in files
        if Path(name).name.startswith(".env")
        or Path(name).suffix in {".safetensors", ".pth", ".bin", ".pem"}
        or "/.git/" in name
    ]
    assert forbidden == []


def test_the_gpu_image_is_the_bentos_and_both_hold_the_same_source(standard: Deployment) -> None:
    commands = [
        "\n".join(one.image.dockerfile_commands)
        for one in standard.plane.requests_of("ImageGetOrCreate")
    ]
    (bento_image,) = [text for text in commands if "bentoml" in text and "FROM nvidia/cuda" in text]
    assert "UV_PYTHON_INSTALL_DIR" in bento_image
    assert any("ENTRYPOINT []" in text for text in commands)
    assert any("FROM python:3.11" in text or "debian" in text for text in commands)
    assert not any("torch" in text for text in commands if "bentoml" not in text)
    mounts = standard.plane.requests_of("MountGetOrCreate")
    source = "infinitetalk/jobs/modal_store.py"
    hashes = [
        {file.filename: file.sha256_hex for file in mount.files}
        for mount in mounts
        if any(file.filename.endswith(source) for file in mount.files)
    ]
    found = [value for files in hashes for name, value in files.items() if name.endswith(source)]
    assert len(found) == 2  # the context of the Bento's image, and the small one's folder
    assert len(set(found)) == 1


@pytest.fixture(scope="module")
def chosen() -> Deployment:
    return deploy(
        INFINITETALK_GPU="none", INFINITETALK_MAX_QUEUE="7", INFINITETALK_HOME="/somewhere/here"
    )


def test_containers_get_the_choices_of_this_machine_but_not_its_folders(chosen: Deployment) -> None:
    environments = [one.env_dict for one in chosen.plane.requests_of("SecretGetOrCreate")]
    assert all(env["INFINITETALK_MAX_QUEUE"] == "7" for env in environments)
    assert all(env["INFINITETALK_PRESET"] == "tiny" for env in environments)
    assert not any("INFINITETALK_HOME" in env for env in environments)
    assert any(env.get("HF_HUB_OFFLINE") == "1" for env in environments)


def test_without_a_gpu_there_is_no_cuda_either(chosen: Deployment) -> None:
    assert [chosen.gpus(name) for name in GPU] == [[""], [""]]
    commands = [
        line
        for one in chosen.plane.requests_of("ImageGetOrCreate")
        for line in one.image.dockerfile_commands
    ]
    assert any("torch==2.11.0" in line and "whl/cpu" in line for line in commands)
    assert not any("nvidia/cuda" in line for line in commands)


def test_other_gpus_change_the_gpu_functions_and_nothing_else(standard: Deployment) -> None:
    other = deploy(
        INFINITETALK_PRESET="standard",
        INFINITETALK_MODAL_SECRET="team",
        INFINITETALK_GPU="H100,H200",
    )
    assert [other.gpus(name) for name in GPU] == [["H100", "H200"]] * 2
    for name in (*SMALL, "prepare_weights"):
        assert other.gpus(name) == [""]
    for name in EVERYWHERE:
        assert _without_gpu(other.first(name)) == _without_gpu(standard.first(name)), name
    ours, theirs = (_environments(one) for one in (standard, other))
    assert ours == theirs


def _without_gpu(definition: Any) -> Any:
    """A function but for its GPU and for numbers that Modal gave its parts, in whatever order."""
    copy = type(definition)()
    copy.CopyFrom(definition)
    copy.resources.ClearField("gpu_config")
    for field in ("mount_ids", "image_id", "secret_ids", "object_dependencies"):
        copy.ClearField(field)
    return copy


def _environments(deployment: Deployment) -> list[list[tuple[str, str]]]:
    asked = deployment.plane.requests_of("SecretGetOrCreate")
    return sorted(sorted(one.env_dict.items()) for one in asked)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"INFINITETALK_GPU": "L40"}, "allowed are L40S, A100-40GB"),
        ({"INFINITETALK_BENTO": "/nowhere"}, "no folder of a built Bento"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_deployed(
    variables: dict[str, str], said: str
) -> None:
    with ControlPlane() as plane:
        done = modal_command(plane, "deploy", "modal_deploy.py", **variables)
        assert done.returncode != 0
        assert said in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert plane.requests_of("FunctionCreate") == []


def test_a_pushed_image_serves_all_functions() -> None:
    deployment = deploy(INFINITETALK_IMAGE="registry.example/talk:1")
    commands = [
        list(one.image.dockerfile_commands)
        for one in deployment.plane.requests_of("ImageGetOrCreate")
    ]
    assert any("FROM registry.example/talk:1" in lines for lines in commands)
    assert not any("nvidia/cuda" in line for lines in commands for line in lines)


@pytest.fixture(scope="module")
def one_video(
    tmp_path_factory: pytest.TempPathFactory, portrait: Path, make_speech: Any
) -> Iterator[Any]:
    output = tmp_path_factory.mktemp("run") / "outputs" / "video.mp4"
    with ControlPlane() as plane:
        media = ("--image-path", str(portrait), "--audio1-path", str(make_speech(8.0)))
        done = modal_command(
            plane, "run", "modal_deploy.py", *media, "--prompt", "hi", "--output-path", str(output)
        )
        yield done, output


def test_modal_run_leaves_a_video_that_decodes(one_video: Any) -> None:
    done, output = one_video
    assert done.returncode == 0, done.stdout + done.stderr
    with VideoFrames(output, max_megapixels=10) as frames:
        assert (frames.height, frames.width) == (48, 48)
        assert frames.frame(199).any()


def test_modal_run_tells_how_it_goes_on(one_video: Any) -> None:
    done, output = one_video
    assert re.search("window [1-7] of 7", done.stderr)
    assert f"{output}: 8.00 s of video" in done.stderr


@pytest.mark.parametrize(
    ("image", "said"),
    [("missing.png", "There is no file missing.png"), ("pyproject.toml", "unsupported_media")],
)
def test_modal_run_refuses_what_cannot_be_rendered_in_one_sentence(
    image: str, said: str, make_speech: Any, tmp_path: Path
) -> None:
    with ControlPlane() as plane:
        media = ("--image-path", image, "--audio1-path", str(make_speech(1.2)))
        output = ("--output-path", str(tmp_path / "o.mp4"))
        done = modal_command(plane, "run", "modal_deploy.py", *media, *output)
        assert done.returncode != 0
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert plane.containers("Generator") == []


def test_the_bento_that_is_deployed_is_of_these_files(standard: Deployment) -> None:
    """A change of any of them makes another one, so an old one is never deployed."""
    bento = current_bento(ROOT)
    source = (bento / "src" / "infinitetalk" / "jobs" / "modal_store.py").read_bytes()
    assert source == (ROOT / "infinitetalk" / "jobs" / "modal_store.py").read_bytes()
