"""A running server answers whatever is made up from /docs.json: no 500, nothing undescribed.

schemathesis makes the requests up, valid and invalid, at the bounds of every field and in sequences
that the description's links suggest. The seed is fixed; `make test-schema` runs this.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from infinitetalk.client import Client
from tests.running_server import ROOT, RunningServer

ASSETS = ROOT / "infinitetalk" / "demo" / "assets"
MEDIA = {"image": str(ASSETS / "portrait.png"), "audio": str(ASSETS / "speech.flac")}
OPTIONS = (
    *("--seed", "8", "--max-examples", "12", "--generation-database", "none"),
    # Bytes that were made up are no picture, so what fits the description may be refused.
    *("--exclude-checks", "positive_data_acceptance"),
    *(
        "--output-sanitize",
        "false",
        "--max-redirects",
        "0",
        "--request-timeout",
        "90",
        "--warnings",
        "off",
        "--no-color",
    ),
)
SCHEMATHESIS = "from schemathesis.cli import schemathesis; schemathesis()"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that takes few jobs at a time."""
    variables = {"INFINITETALK_WAIT_SECONDS": "60", "INFINITETALK_MAX_QUEUE": "4"}
    with RunningServer(tmp_path_factory.mktemp("server"), **variables) as server:
        server.wait_for_engine()
        yield server


def known(server: RunningServer) -> dict[str, object]:
    """Jobs in several states, and media to make more of them."""
    with Client(server.url) as client:
        ids = [
            client.submit(ASSETS / "portrait.png", ASSETS / "speech.flac", max_seconds=1).id
            for _ in range(3)
        ]
        client.task(ids[0]).wait()
        client.task(ids[1]).cancel()
    httpx.delete(f"{server.url}/v1/jobs/{ids[2]}").raise_for_status()
    return {"jobs": ids, **MEDIA}


@pytest.mark.schema
@pytest.mark.timeout(300)
def test_whatever_is_asked_is_answered_as_described(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "known.json").write_text(json.dumps(known(server)), "utf-8")
    told = {
        "SCHEMATHESIS_HOOKS": "tests.end_to_end.http_api_hooks",
        "HTTP_API_KNOWN": str(tmp_path / "known.json"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    run = subprocess.run(
        [sys.executable, "-c", SCHEMATHESIS, "run", f"{server.url}/docs.json", *OPTIONS],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **told},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.get("/v1/info")["engines"][0]["state"] == "ready"
    assert "Traceback" not in server.log_text()
