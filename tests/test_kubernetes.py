"""deploy/kubernetes.yaml and docs/deploy-anywhere.md say what the code and the image say."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from infinitetalk.cli import parser
from infinitetalk.config import Settings, load_settings, variable_name
from infinitetalk.errors import InvalidSetting
from infinitetalk.jobs.supervisor import GRACE_S

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "deploy-anywhere.md").read_text("utf-8")
DOCUMENTS = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text("utf-8")))
MANIFEST = {(one["kind"], one["metadata"]["name"]): one for one in DOCUMENTS}
DEPLOYMENT = MANIFEST["Deployment", "infinitetalk"]["spec"]
POD = DEPLOYMENT["template"]["spec"]
[SERVING] = POD["containers"]
JOB_POD = MANIFEST["Job", "infinitetalk-weights"]["spec"]["template"]["spec"]
[PREPARING] = JOB_POD["containers"]
RECIPE = yaml.safe_load((ROOT / "bentofile.yaml").read_text("utf-8"))
IMAGE = {item["name"]: item["value"] for item in RECIPE["envs"]}
SETTINGS = {variable_name(item): item for item in fields(Settings)}
SECRETS = {"INFINITETALK_API_KEYS", "INFINITETALK_WEBHOOK_SECRET", "HF_TOKEN"}
DRAIN_S = GRACE_S + 10  # BentoML's own processes end after the engines have
IMAGE_USER = 1034  # BentoML's, in every image of it
LIST_ROUTES = "from service import InfiniteTalk as s; print(*[r.path for r in s.to_asgi().routes])"


def environment(container: Mapping[str, Any]) -> dict[str, str]:
    """Variable -> its value, or a stand-in for one that comes from a Secret."""
    return {item["name"]: item.get("value", "from-a-secret") for item in container["env"]}


def mounts(container: Mapping[str, Any], pod: Mapping[str, Any]) -> dict[str, tuple[str, bool]]:
    """Path -> the claim that is mounted there, and whether it is read-only."""
    claims = {one["name"]: one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"]}
    return {
        mount["mountPath"]: (claims[mount["name"]], mount.get("readOnly", False))
        for mount in container["volumeMounts"]
    }


@pytest.fixture(scope="module")
def routes() -> list[str]:
    """The paths that BentoML itself answers for the service."""
    variables = {**os.environ, "BENTOML_DO_NOT_TRACK": "True"}
    listing = [sys.executable, "-c", LIST_ROUTES]
    done = subprocess.run(
        listing, cwd=ROOT, env=variables, check=True, capture_output=True, text=True
    )
    return done.stdout.split()


@pytest.mark.parametrize("container", [SERVING, PREPARING], ids=["service", "weights"])
def test_only_settings_that_exist_are_set(container: Mapping[str, Any]) -> None:
    variables = environment(container)
    assert set(variables) <= set(SETTINGS)
    load_settings(variables)


@pytest.mark.parametrize("pod", [POD, JOB_POD], ids=["service", "weights"])
def test_kubernetes_adds_no_variables_of_the_service_which_would_stop_the_start(
    pod: Mapping[str, Any],
) -> None:
    assert ("Service", "infinitetalk") in MANIFEST
    with pytest.raises(InvalidSetting, match="INFINITETALK_PORT"):
        load_settings({"INFINITETALK_PORT": "tcp://10.0.0.1:80"})
    assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize("container", [SERVING, PREPARING], ids=["service", "weights"])
def test_secrets_come_from_the_secret_alone(container: Mapping[str, Any]) -> None:
    for item in container["env"]:
        is_secret = item["name"] in SECRETS
        assert ("valueFrom" in item) is is_secret
        if is_secret:
            reference = item["valueFrom"]["secretKeyRef"]
            assert (reference["name"], reference["key"]) == ("infinitetalk", item["name"])


def test_the_service_does_not_start_open_to_all() -> None:
    [keys] = [item for item in SERVING["env"] if item["name"] == "INFINITETALK_API_KEYS"]
    assert not keys["valueFrom"]["secretKeyRef"].get("optional", False)
    assert f"--from-literal {keys['name']}=" in PAGE


def test_volumes_are_where_the_image_looks() -> None:
    data, weights = IMAGE["INFINITETALK_DATA"], IMAGE["INFINITETALK_WEIGHTS"]
    assert mounts(SERVING, POD) == {
        data: ("infinitetalk-data", False),
        weights: ("infinitetalk-models", True),
    }
    assert mounts(PREPARING, JOB_POD) == {weights: ("infinitetalk-models", False)}
    claims = {name for kind, name in MANIFEST if kind == "PersistentVolumeClaim"}
    assert claims == {"infinitetalk-data", "infinitetalk-models"}
    assert environment(SERVING)["INFINITETALK_HOME"].startswith(f"{data}/")


def test_the_data_volume_holds_what_the_service_may_keep() -> None:
    claim = MANIFEST["PersistentVolumeClaim", "infinitetalk-data"]["spec"]
    gibibytes = int(claim["resources"]["requests"]["storage"].removesuffix("Gi"))
    kept = load_settings(environment(SERVING)).max_disk_gigabytes * 1e9
    assert gibibytes * 2**30 > 1.2 * kept
    assert claim["accessModes"] == ["ReadWriteOnce"]


def test_probes_ask_routes_that_are_answered(routes: list[str]) -> None:
    kinds = ("startupProbe", "readinessProbe", "livenessProbe")
    paths = [SERVING[kind]["httpGet"]["path"] for kind in kinds]
    assert paths == ["/livez", "/readyz", "/livez"]
    assert set(paths) <= set(routes)


def test_a_slow_start_is_waited_for_before_anything_is_called_hung() -> None:
    startup, live = SERVING["startupProbe"], SERVING["livenessProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 60  # as compose.yaml waits
    assert live["periodSeconds"] * live["failureThreshold"] >= 60


def test_every_port_is_the_one_that_the_image_listens_on() -> None:
    assert SERVING["ports"] == [{"name": "http", "containerPort": 3000}]
    [port] = MANIFEST["Service", "infinitetalk"]["spec"]["ports"]
    assert (port["targetPort"], port["port"]) == ("http", 80)
    assert "port-forward service/infinitetalk 3000:80" in PAGE


def test_the_service_finds_its_pods() -> None:
    labels = DEPLOYMENT["template"]["metadata"]["labels"]
    selectors = [
        DEPLOYMENT["selector"]["matchLabels"],
        MANIFEST["Service", "infinitetalk"]["spec"]["selector"],
    ]
    assert selectors == [labels, labels]
    weights = MANIFEST["Job", "infinitetalk-weights"]["spec"]["template"]["metadata"]["labels"]
    assert weights.items().isdisjoint(labels.items())


def test_a_stopped_pod_has_the_time_to_hand_its_job_back() -> None:
    assert POD["terminationGracePeriodSeconds"] >= DRAIN_S
    assert f"terminationGracePeriodSeconds: {POD['terminationGracePeriodSeconds']}`" in PAGE


def test_two_pods_never_share_the_data() -> None:
    assert DEPLOYMENT["replicas"] == 1
    assert DEPLOYMENT["strategy"] == {"type": "Recreate"}


def test_there_is_an_engine_for_every_gpu() -> None:
    gpus = int(SERVING["resources"]["limits"]["nvidia.com/gpu"])
    assert load_settings(environment(SERVING)).engines == gpus
    assert "nvidia.com/gpu" not in str(JOB_POD), "preparing needs none"


@pytest.mark.parametrize("pod", [POD, JOB_POD], ids=["service", "weights"])
def test_pods_run_as_the_user_of_the_image_without_privileges(pod: Mapping[str, Any]) -> None:
    security = pod["securityContext"]
    who = (security["runAsUser"], security["runAsGroup"], security["fsGroup"])
    assert who == (IMAGE_USER, IMAGE_USER, IMAGE_USER)
    assert security["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_job_prepares_the_preset_that_is_served() -> None:
    *start, command = PREPARING["args"][:4]
    assert (start, command) == (["python", "-m", "infinitetalk.cli"], "weights")
    options = parser().parse_args(PREPARING["args"][3:])
    assert options.preset == environment(SERVING)["INFINITETALK_PRESET"]
    assert "command" not in PREPARING, "it would replace the entrypoint, which finds Python"


def test_the_service_is_started_by_the_entrypoint_of_the_image() -> None:
    assert "command" not in SERVING
    assert "args" not in SERVING
    assert SERVING["image"] == PREPARING["image"]


def test_the_page_names_only_settings_that_exist() -> None:
    named = set(re.findall(r"\b(?:INFINITETALK|HF)_[A-Z_]+\b", PAGE))
    assert "INFINITETALK_ENGINES" in named
    assert named <= set(SETTINGS)


def test_the_page_asks_for_routes_and_commands_that_exist(routes: list[str]) -> None:
    asked = set(re.findall(r"localhost:3000(/[a-z/0-9]+)", PAGE))
    assert asked == {"/readyz", "/v1/info", "/generate/submit"}
    assert {"/readyz", "/generate/submit"} <= set(routes)
    [command] = re.findall(r"-m infinitetalk\.cli ([^`]+)`", PAGE)
    parser().parse_args(shlex.split(command))


def test_the_page_links_to_pages_that_are_there() -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
