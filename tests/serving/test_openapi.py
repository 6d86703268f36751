"""The document at /docs.json: valid, complete, and exact about what a request may hold.

What the service answers is compared with it wherever a test calls the service (`described`), and
by schemathesis against a running server (`tests/end_to_end/test_http_api.py`).
"""

import json
from typing import Any

import pytest
from openapi_spec_validator import validate
from starlette.routing import Mount, Route

from infinitetalk.config import Settings
from infinitetalk.errors import InfiniteTalkError
from infinitetalk.jobs.model import Problem
from infinitetalk.serving.api_operations import OPERATIONS
from infinitetalk.serving.app import create_app
from infinitetalk.serving.backend import Backend
from infinitetalk.serving.check import KINDS
from infinitetalk.serving.openapi import describe_api
from infinitetalk.serving.protocol import TaskProtocol
from infinitetalk.serving.request import GenerateRequest
from infinitetalk.spec import MIN_SPEECH_SECONDS, PRESETS, SpeakingOrder
from tests.serving.described import check_json, description
from tests.serving.playing import Running, Service

BENTOML = {"/", "/livez", "/healthz", "/readyz", "/metrics", "/schema.json"}
ELSEWHERE = {  # the command line, the client, and the start of an engine meet these
    *("file_missing", "connection_failed", "acceptance_failed", "invalid_setting"),
    *("weights_busy", "source_file_missing", "source_forbidden"),
}
FORM = description()["components"]["schemas"]["GenerateForm"]["properties"]


def routes() -> set[tuple[str, str]]:
    """Every method and path that this package answers, the page's files aside."""
    backend = Backend(Settings())
    app = create_app(backend)
    protocol = TaskProtocol(app, backend)
    found = [*app.routes, *protocol.routes]
    assert {route.path for route in found if isinstance(route, Mount)} == {"/ui", "/ui/example"}
    return {
        (method, route.path)
        for route in found
        if isinstance(route, Route)
        for method in route.methods or ()
    }


def described() -> set[tuple[str, str]]:
    return {(call.method.upper(), call.path) for call in OPERATIONS}


def names_within(value: Any) -> set[str]:
    """Every name of every object in it."""
    if isinstance(value, list):
        return {name for item in value for name in names_within(item)}
    if isinstance(value, dict):
        return set(value).union(*(names_within(item) for item in value.values()))
    return set()


@pytest.mark.parametrize("needs_key", [False, True])
def test_the_document_is_valid(needs_key: bool) -> None:
    validate(describe_api(needs_key=needs_key))


def test_every_route_is_described() -> None:
    implied = {("HEAD", path) for method, path in routes() if method == "GET"}
    assert routes() - implied <= described()


def test_everything_that_is_described_is_a_route() -> None:
    others = {path for _, path in described() if path in BENTOML or path.startswith("/ui/")}
    assert {(method, path) for method, path in described() if path not in others} <= routes()


def test_no_call_has_the_name_of_another() -> None:
    names = [call.name for call in OPERATIONS]
    assert len(set(names)) == len(names)


def test_it_is_what_the_service_answers(service: Service) -> None:
    assert service.get("/docs.json").json() == json.loads(json.dumps(description()))


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("seed", {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}),
        ("steps", {"minimum": 1, "maximum": max(p.max_steps for p in PRESETS.values())}),
        ("text_guidance", {"type": "number", "minimum": 0, "maximum": 20}),
        ("max_seconds", {"minimum": MIN_SPEECH_SECONDS}),
        ("order", {"type": "string", "enum": [str(order) for order in SpeakingOrder]}),
        ("boxes", {"type": "array", "maxItems": 2}),
        ("image", {"type": "string", "format": "binary"}),
    ],
)
def test_a_field_has_its_type_and_its_bounds(field: str, told: dict[str, object]) -> None:
    assert told.items() <= FORM[field].items()


def test_a_form_has_every_field_of_a_request_and_the_files() -> None:
    assert FORM.keys() == GenerateRequest.model_fields.keys() | {"image", "audio", "audio_2"}


def test_nothing_but_json_schema_is_in_a_schema() -> None:
    assert not {"ge", "le", "gt", "lt", "$defs"} & names_within(description())


def test_every_code_is_told_of_some_call() -> None:
    told = {kind for call in OPERATIONS for kind in call.errors} | {InfiniteTalkError}
    never = {kind.code for kind in KINDS.values()} - {kind.code for kind in told}
    branches = {"invalid_input", "refused", "timed_out", "render_failed", "unavailable"}
    assert never == branches | ELSEWHERE


def test_a_job_is_described_in_every_state(service: Service) -> None:
    waiting = service.submit()
    check_json(service.status(waiting), {"$ref": "#/components/schemas/JobStatus"})
    service.fail(waiting, Problem("worker_lost", "It broke.", 500, retryable=True))
    check_json(service.status(waiting), {"$ref": "#/components/schemas/JobStatus"})
    done = service.submit()
    service.complete(done)
    check_json(service.status(done), {"$ref": "#/components/schemas/JobStatus"})


@pytest.mark.parametrize("path", ["/v1/queue", "/v1/info"])
def test_what_the_service_says_of_itself_is_described(service: Service, path: str) -> None:
    assert service.get(path).status_code == 200  # and was compared


def test_where_a_key_is_needed_every_call_with_one_says_so(run: Running) -> None:
    with run(api_keys=("k1",)) as service:
        paths = service.get("/docs.json").json()["paths"]
        locked = {
            path
            for path, calls in paths.items()
            if all("bearer" in way for call in calls.values() for way in call["security"])
        }
        asked = {path: path.replace("{name}", "init.mp4") for path in locked}
        assert {path for path in locked if service.get(asked[path]).status_code != 401} <= {
            # Not asked for by GET.
            *("/generate", "/generate/submit", "/generate/cancel", "/generate/retry", "/submit")
        }
        assert {"/v1/info", "/generate/status", "/result"} <= locked


def test_where_none_is_needed_every_call_can_do_without(service: Service) -> None:
    calls = [call for calls in description()["paths"].values() for call in calls.values()]
    assert all({} in call["security"] for call in calls)
