"""compose.yaml and the workflow say what the code, the image and the Makefile say."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from infinitetalk.cli import parser
from infinitetalk.config import load_settings

ROOT = Path(__file__).parents[2]
GIVE_BACK_S = 20  # within which a stopped service has handed its job back


def read(name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / name).read_text("utf-8"))
    return parsed


SERVICE = read("compose.yaml")["services"]["infinitetalk"]
IMAGE = {item["name"]: item["value"] for item in read("bentofile.yaml")["envs"]}


def test_compose_sets_only_settings_that_exist() -> None:
    load_settings(SERVICE["environment"])


def test_compose_keeps_what_the_image_writes_and_only_reads_the_weights() -> None:
    mounts = dict(volume.split(":", 1) for volume in SERVICE["volumes"])
    data, weights = IMAGE["INFINITETALK_DATA"], IMAGE["INFINITETALK_WEIGHTS"]
    assert mounts == {"data": data, "models": f"{weights}:ro"}
    assert set(read("compose.yaml")["volumes"]) == set(mounts)


def test_compose_fills_the_folder_that_the_service_reads() -> None:
    weights = read("compose.yaml")["services"]["weights"]
    assert weights["volumes"] == [f"models:{IMAGE['INFINITETALK_WEIGHTS']}"]
    assert weights["image"] == SERVICE["image"]
    assert weights["profiles"], "it must not start with the service"
    module, command = weights["entrypoint"][2:]
    assert module == "infinitetalk.cli"
    assert parser().parse_args([command, *weights["command"]]).preset == "standard"


def test_compose_gives_every_gpu_of_the_host() -> None:
    [device] = SERVICE["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_compose_waits_until_a_stopped_service_handed_its_job_back() -> None:
    assert int(SERVICE["stop_grace_period"].removesuffix("s")) > GIVE_BACK_S


def test_compose_opens_the_port_to_this_host_only() -> None:
    assert SERVICE["ports"] == ["127.0.0.1:3000:3000"]


def test_compose_asks_whether_the_service_is_ready() -> None:
    program, *arguments = SERVICE["healthcheck"]["test"][1:]
    assert program == "python"
    compile(arguments[-1], "healthcheck", "exec")
    assert "http://127.0.0.1:3000/readyz" in arguments[-1]


def test_compose_holds_no_secret() -> None:
    assert not [name for name in SERVICE["environment"] if re.search(r"KEY|SECRET", name)]
    assert not any(file["required"] for file in SERVICE["env_file"])


def test_compose_runs_the_image_that_make_builds() -> None:
    recipe = subprocess.run(
        ["make", "--dry-run", "image"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert f"--tag {SERVICE['image']} " in recipe
    assert "--label org.opencontainers.image.revision=" in recipe
    assert "bentoml build --label git_revision=" in recipe


def test_the_workflow_calls_targets_that_exist() -> None:
    steps = [
        step for job in read(".github/workflows/ci.yml")["jobs"].values() for step in job["steps"]
    ]
    called = {run.removeprefix("make ") for step in steps if "make" in (run := step.get("run", ""))}
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert called == {"test", "test-ui", "check", "image-test"}
    assert called <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
