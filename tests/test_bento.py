"""What `bentoml build` makes of bentofile.yaml: the files of the Bento and the Dockerfile.

No container is built here; `make image-test` does that. What the set-up script does is in
tests/image/test_setup.py.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from infinitetalk.config import load_settings

ROOT = Path(__file__).parents[1]
BENTOFILE = yaml.safe_load((ROOT / "bentofile.yaml").read_text("utf-8"))
MAX_SOURCE_BYTES = 10_000_000
NOT_RUNNING_CODE = {"tests", "docs", "benchmarks", "loadtest", "weights", "golden", "outputs"}

# What each step must come after: every line is a step, top to bottom.
STEPS = (
    r"^FROM nvidia/cuda:13\.0\.\d+-devel-ubuntu24\.04 ",
    r"^RUN .*groupadd",
    r"^RUN mkdir \$BENTO_PATH",
    r"^RUN apt-get update ",
    r"^RUN apt-get install .* python3-pip$",
    r"^RUN command -v uv .* pip install uv$",
    r"uv venv --python 3\.11 /app/\.venv",
    r"^COPY .* \./env/python ",
    r"uv .* pip install -r \$BENTO_PATH/env/python/requirements\.txt$",
    r"^RUN chmod \+x \S+/script__\w+ && \S+/script__\w+$",
    r"^COPY .* \. \./$",
    r"^EXPOSE 3000$",
    r"^USER bentoml$",
    r"^ENTRYPOINT \[ .*/env/docker/entrypoint\.sh",
)


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Bento of this tree, built as `make bento` does."""
    home = tmp_path_factory.mktemp("bentoml")
    environment = {**os.environ, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    build = [sys.executable, "-m", "bentoml", "build", "--label", "git_revision=0123abc"]
    subprocess.run(build, check=True, cwd=ROOT, env=environment, capture_output=True)
    [bento] = (path.parent for path in home.glob("bentos/infinitetalk/*/bento.yaml"))
    return bento


@pytest.fixture(scope="module")
def dockerfile(bento: Path) -> str:
    return (bento / "env/docker/Dockerfile").read_text("utf-8")


def variables(dockerfile: str) -> dict[str, str]:
    """Name -> default of what is a build argument and a variable of the image."""
    arguments = dict(re.findall(r"^ARG (\w+)='?(.*?)'?$", dockerfile, re.MULTILINE))
    names = re.findall(r"^ENV (\w+)=\$\1$", dockerfile, re.MULTILINE)
    return {name: arguments[name] for name in names if not name.startswith("BENTO_")}


def test_the_steps_of_the_dockerfile_are_in_order(dockerfile: str) -> None:
    found = [[m.start() for m in re.finditer(step, dockerfile, re.MULTILINE)] for step in STEPS]
    assert [len(places) for places in found] == [1] * len(STEPS)
    assert found == sorted(found)


def test_torch_and_flash_attn_are_installed_by_our_script(bento: Path, dockerfile: str) -> None:
    [script] = re.findall(r"&& \./(env/docker/script__\w+)$", dockerfile, re.MULTILINE)
    assert (bento / script).read_bytes() == (ROOT / "image/setup.sh").read_bytes()


def test_any_builder_takes_the_dockerfile(dockerfile: str) -> None:
    """Modal's, kaniko and buildah know no syntax line and no mounts."""
    assert not re.search(r"^# *syntax|--mount", dockerfile, re.MULTILINE)


def test_the_image_holds_what_the_lock_pins_and_no_more(bento: Path) -> None:
    lock = (ROOT / "requirements/image.lock").read_text("utf-8")
    installed = (bento / "env/python/requirements.txt").read_text("utf-8")
    assert _pins(installed) == _pins(lock)
    assert _pins(lock)["bentoml"] == "==1.4.39"


def _pins(requirements: str) -> dict[str, str]:
    lines = [line.split(" #")[0] for line in requirements.splitlines() if not line.startswith("#")]
    return {r.name: str(r.specifier) for r in map(Requirement, filter(None, lines))}


def test_every_variable_of_the_bentofile_reaches_the_image(dockerfile: str) -> None:
    wanted = {item["name"]: item["value"] for item in BENTOFILE["envs"]}
    assert variables(dockerfile) == wanted
    assert "env" not in BENTOFILE["docker"], "BentoML drops docker.env without a word"


def test_the_image_starts_with_settings_that_exist(dockerfile: str) -> None:
    settings = load_settings(variables(dockerfile))
    assert (settings.data_folder, settings.weights_folder) == (Path("/data"), Path("/models"))


def test_no_build_argument_and_no_variable_is_a_secret(dockerfile: str) -> None:
    names = re.findall(r"^(?:ARG|ENV) (\w+)", dockerfile, re.MULTILINE)
    assert not [n for n in names if re.search(r"TOKEN|SECRET|PASSW|CREDENTIAL|_KEY", n)]


def test_no_build_argument_changes_with_the_commit(dockerfile: str) -> None:
    """It would stand before all other layers, and rebuild them: flash-attn is an hour."""
    assert "0123abc" not in dockerfile


def test_the_service_does_not_run_as_root(dockerfile: str) -> None:
    assert re.search(r"^ARG BENTO_USER_UID=1034$", dockerfile, re.MULTILINE)
    assert re.findall(r"^USER (\w+)$", dockerfile, re.MULTILINE)[-1] == "bentoml"


def test_the_cuda_of_the_base_and_of_pytorch_are_the_same(dockerfile: str) -> None:
    [base] = re.findall(r"^FROM nvidia/cuda:(\d+)\.(\d+)", dockerfile, re.MULTILINE)
    assert variables(dockerfile)["TORCH_INDEX"].endswith(f"/whl/cu{''.join(base)}")


def test_pytorch_of_the_image_is_the_one_the_lock_was_made_for(dockerfile: str) -> None:
    version = variables(dockerfile)["TORCH_VERSION"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    [wanted] = [r for r in map(Requirement, project["dependencies"]) if r.name == "torch"]
    assert version in wanted.specifier
    assert f"torch=={version} " in (ROOT / "requirements/image.txt").read_text("utf-8")


def source_files(bento: Path) -> set[str]:
    source = bento / "src"
    return {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}


def test_the_bento_holds_all_of_the_package_and_little_else(bento: Path) -> None:
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "infinitetalk").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    others = {"service.py", "pyproject.toml", "README.md", "requirements/image.lock"}
    others |= {"LICENSE", "NOTICE"}
    assert source_files(bento) == package | others | {"bentofile.yaml"}


def test_weights_tests_and_golden_data_stay_out_of_the_bento(bento: Path) -> None:
    assert not {Path(name).parts[0] for name in source_files(bento)} & NOT_RUNNING_CODE
    sizes = [path.stat().st_size for path in bento.rglob("*") if path.is_file()]
    assert sum(sizes) < MAX_SOURCE_BYTES


def test_the_bento_names_its_service_and_its_revision(bento: Path) -> None:
    manifest = yaml.safe_load((bento / "bento.yaml").read_text("utf-8"))
    assert manifest["service"] == "service:InfiniteTalk"
    assert manifest["labels"]["git_revision"] == "0123abc"


def test_the_bento_tells_clients_of_the_task(bento: Path) -> None:
    schema: dict[str, Any] = json.loads((bento / "apis/schema.json").read_text("utf-8"))
    tasks = {route["name"]: route["route"] for route in schema["routes"] if route.get("is_task")}
    assert (schema["name"], tasks) == ("infinitetalk", {"generate": "/generate"})
