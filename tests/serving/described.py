"""Every answer that a test of the service gets is compared with what /docs.json says of it."""

import re
from functools import cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from infinitetalk.serving.openapi import describe_api

NO_BODY = {"HEAD"}


@cache
def description() -> dict[str, Any]:
    return describe_api(needs_key=False)


def check_answer(answer: httpx.Response) -> None:
    """Its status, content type and JSON are among those of the description.

    Methods and paths that are not described are left alone: they are 404 and 405.
    """
    if (operation := operation_of(answer.request)) is None:
        assert answer.status_code in (404, 405, 307), answer.request.url
        return
    told = operation["responses"].get(str(answer.status_code))
    where = f"{answer.request.method} {answer.request.url.path}: {answer.status_code}"
    assert told is not None, f"{where} is not described"
    content_type = answer.headers.get("content-type", "").partition(";")[0]
    if answer.request.method in NO_BODY or not (content := told.get("content")):
        return
    assert content_type in content or "*/*" in content, f"{where} is {content_type}"
    if content_type == "application/json":
        answer.read()
        said = answer.json()
        check_json(said, content[content_type]["schema"])
        if answer.status_code >= 400:
            assert f"`{said['code']}`" in told["description"], f"{where} {said['code']}"


def check_json(value: object, schema: dict[str, Any]) -> None:
    """The value fits a schema of the description, and has no name that the schema has not."""
    whole = {**schema, "components": description()["components"]}
    Draft202012Validator(whole).validate(value)
    unknown = unknown_names(value, schema)
    assert not unknown, f"{sorted(unknown)} is not described"


def unknown_names(value: object, schema: dict[str, Any]) -> set[str]:
    """The names in objects, at any depth, of which the schema says nothing."""
    schema = resolved(schema)
    if isinstance(value, list):
        return {name for item in value for name in unknown_names(item, schema.get("items", {}))}
    if not isinstance(value, dict) or "properties" not in schema:
        return set()
    known = schema["properties"]
    below = [unknown_names(value[name], known[name]) for name in value.keys() & known.keys()]
    return (value.keys() - known.keys()).union(*below)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return description()["components"]["schemas"][name] if name else schema


def operation_of(request: httpx.Request) -> dict[str, Any] | None:
    """What the description says of a call."""
    for path, operations in description()["paths"].items():
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))
        if re.fullmatch(pattern, request.url.path):
            found: dict[str, Any] | None = operations.get(request.method.lower())
            return found
    return None
