"""The words in which `api_operations` tells of the API: a call, an answer, a parameter."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infinitetalk.errors import InfiniteTalkError
from infinitetalk.serving.api_schemas import Schema
from infinitetalk.serving.check import KINDS

Errors = frozenset[type[InfiniteTalkError]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that is no error: its content by media type, and headers by name."""

    status: int
    meaning: str
    content: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    name: str
    method: str
    path: str
    group: str
    summary: str
    answers: tuple[Answer, ...]
    errors: Errors = frozenset()
    parameters: tuple[Schema, ...] = ()
    body: Mapping[str, Any] | None = None  # content by media type
    needs_key: bool = True
    starts: str | None = None  # the name of the id in the answer, where it is a new job's


def kinds(*bases: type[InfiniteTalkError]) -> Errors:
    """All errors below these."""
    below = (kind for kind in KINDS.values() if issubclass(kind, bases))
    return frozenset(below) - frozenset(bases)


def named(schema: str) -> Schema:
    """A schema of the components."""
    return {"$ref": f"#/components/schemas/{schema}"}


def told(schema: str, meaning: str, status: int = 200) -> Answer:
    """An answer in JSON."""
    return Answer(status, meaning, {"application/json": named(schema)})


def parameter(name: str, place: str, meaning: str, **schema: Any) -> Schema:
    """A parameter; one of a path or a query is required, a header is not."""
    return {
        "name": name,
        "in": place,
        "required": place != "header",
        "description": meaning,
        "schema": {"type": "string", **schema},
    }
