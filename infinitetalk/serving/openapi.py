"""The HTTP API as an OpenAPI 3.1 document, served at /docs.json in the place of BentoML's own.

BentoML knows its task protocol only, with its own errors. The calls are in `api_operations`, what
they take and answer in `api_schemas`; nothing is asked or decided here.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from infinitetalk import __version__
from infinitetalk.errors import InfiniteTalkError, Refused
from infinitetalk.serving.api_operation import Answer, Errors, Operation, named
from infinitetalk.serving.api_operations import GROUPS, OPERATIONS
from infinitetalk.serving.api_schemas import Schema, components

ABOUT = """\
A portrait or a video plus a voice becomes a lip-synced video of any length: submit, ask for the
status, get the result.

A key is needed where `INFINITETALK_API_KEYS` is set, and Modal's two headers where the service is
behind Modal's proxy. Every error has one shape, the schema Error; its code says which one it is.
"""
BEARER, MODAL_KEY, MODAL_SECRET = "bearer", "modal_key", "modal_secret"
MODAL: Mapping[str, list[str]] = {MODAL_KEY: [], MODAL_SECRET: []}
SECURITY_SCHEMES = {
    BEARER: {"type": "http", "scheme": "bearer", "description": "An API key of the deployment."},
    MODAL_KEY: {
        "type": "apiKey",
        "in": "header",
        "name": "Modal-Key",
        "description": "Proxy token of the Modal workspace: wk-...",
    },
    MODAL_SECRET: {
        "type": "apiKey",
        "in": "header",
        "name": "Modal-Secret",
        "description": "The token's secret: ws-...",
    },
}
RETRY_AFTER = {"description": "Seconds until a retry is worth it.", "schema": {"type": "integer"}}
ERROR = named("Error")
REQUEST_ID = {
    "description": "The caller's, or one of ours; the log has it, too.",
    "schema": {"type": "string"},
}
FOLLOWED_BY = {"task_id": ("status", "get", "cancel", "retry"), "call_id": ("result",)}
"""The id in an answer -> the calls that take it."""


def describe_api(*, needs_key: bool) -> dict[str, Any]:
    """The document.

    Args:
        needs_key: whether this deployment has API keys.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "infinitetalk",
            "version": __version__,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "."}],
        "tags": [{"name": name, "description": meaning} for name, meaning in GROUPS.items()],
        "paths": _paths(needs_key),
        "components": {"schemas": components(), "securitySchemes": SECURITY_SCHEMES},
    }


def _paths(needs_key: bool) -> dict[str, dict[str, Any]]:
    paths: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for call in OPERATIONS:
        paths[call.path][call.method] = _operation(call, needs_key)
    return dict(paths)


def _operation(call: Operation, needs_key: bool) -> dict[str, Any]:
    body = {} if call.body is None else {"requestBody": {"required": True, "content": call.body}}
    return {
        "operationId": call.name,
        "tags": [call.group],
        "summary": call.summary,
        "parameters": list(call.parameters),
        **body,
        "responses": _responses(call),
        "security": _security(needs_key and call.needs_key, call.needs_key),
    }


def _security(must_have_key: bool, may_have_key: bool) -> list[Mapping[str, list[str]]]:
    """Any one of these will do; Modal's headers are wanted by its proxy, before the service."""
    keyless: list[Mapping[str, list[str]]] = [] if must_have_key else [{}, MODAL]
    keyed: list[Mapping[str, list[str]]] = [{BEARER: []}, {BEARER: [], **MODAL}]
    return [*keyless, *(keyed if may_have_key else [])]


def _responses(call: Operation) -> dict[str, dict[str, Any]]:
    """By status, as text; one that is a success of a kind and an error, too, has both contents."""
    responses = dict(_errors(call))
    for answer in call.answers:
        status = str(answer.status)
        responses[status] = _merged(responses.get(status), _success(answer, call))
    return dict(sorted(responses.items()))


def _success(answer: Answer, call: Operation) -> dict[str, Any]:
    headers = {name: _header(meaning) for name, meaning in answer.headers.items()}
    links = dict(_links(call.starts)) if call.starts and answer.status == 200 else {}
    parts = {"content": _media(answer.content), "headers": headers, "links": links}
    return {"description": answer.meaning, **{name: part for name, part in parts.items() if part}}


def _media(content: Mapping[str, Schema]) -> dict[str, dict[str, Schema]]:
    return {kind: {"schema": schema} for kind, schema in content.items()}


def _header(meaning: str) -> dict[str, Any]:
    return {"description": meaning, "schema": {"type": "string"}}


def _links(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    value = f"$response.body#/{name}"
    for follower in FOLLOWED_BY[name]:
        yield follower, {"operationId": follower, "parameters": {name: value}}


def _errors(call: Operation) -> Iterator[tuple[str, dict[str, Any]]]:
    """One answer for each status; its description names the codes."""
    faults: Errors = frozenset({InfiniteTalkError}) if call.errors else frozenset()
    by_status: defaultdict[int, list[type[InfiniteTalkError]]] = defaultdict(list)
    for kind in call.errors | faults:
        by_status[kind.status].append(kind)
    for status, found in by_status.items():
        headers: dict[str, Any] = {"X-Request-Id": REQUEST_ID}
        if any(kind.retryable or issubclass(kind, Refused) for kind in found):
            headers["Retry-After"] = RETRY_AFTER
        content = {} if call.method == "head" else {"application/json": {"schema": ERROR}}
        yield str(status), {"description": _codes(found), "headers": headers, "content": content}


def _codes(found: Iterable[type[InfiniteTalkError]]) -> str:
    return ", ".join(sorted({f"`{kind.code}`" for kind in found}))


def _merged(first: Mapping[str, Any] | None, second: Mapping[str, Any]) -> dict[str, Any]:
    if first is None:
        return dict(second)
    both = {**first, **second, "description": f"{first['description']}. {second['description']}"}
    for part in ("content", "headers"):
        if part in first or part in second:
            both[part] = {**first.get(part, {}), **second.get(part, {})}
    return both
