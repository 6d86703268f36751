"""docs/reference/http-api.md: the document of /docs.json for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from infinitetalk.serving.openapi import describe_api

BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "maxItems": "at most {}",
    "pattern": "`{}`",
}
Document = Mapping[str, Any]


def http_api_page() -> str:
    """Every call with what it takes and answers, then every schema."""
    document = describe_api(needs_key=False)
    lines = [
        "# HTTP API",
        "",
        "A running service has the same at `/docs.json` (OpenAPI 3.1), which generators of clients "
        "read, and as a page at `/`. How the calls are used is in "
        "[how-to-serve.md](../how-to-serve.md); the codes of errors are in [errors.md](errors.md).",
        "",
        *(line for group in document["tags"] for line in _group(group, document)),
        "## What is sent and answered",
        "",
        "A `?` after a type says that the value may be null.",
        "",
    ]
    for name, schema in document["components"]["schemas"].items():
        lines += [f"### {name}", "", *_schema(schema), ""]
    return "\n".join(lines)


def _group(group: Document, document: Document) -> Iterator[str]:
    yield from (f"## {group['name'].capitalize()}", "", group["description"], "")
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            if group["name"] in call["tags"]:
                yield from _call(method, path, call)


def _call(method: str, path: str, call: Document) -> Iterator[str]:
    yield from (f"### {method.upper()} {path}", "", _cell(call["summary"]), "")
    body = call.get("requestBody", {}).get("content", {})
    taken = [
        *(
            f"| `{item['name']}` | {item['in']} | {_cell(item['description'])} |"
            for item in call["parameters"]
        ),
        *(f"| body | `{kind}` | {_kind(media['schema'])} |" for kind, media in body.items()),
    ]
    if taken:
        yield from ("| takes | in | |", "|---|---|---|", *taken, "")
    yield from ("| answers | with | |", "|---|---|---|")
    for status, answer in call["responses"].items():
        content = answer.get("content", {})
        kinds = ", ".join(dict.fromkeys(_content(*item) for item in content.items()))
        yield f"| {status} | {kinds} | {_cell(answer['description'])} |"
    yield ""


def _content(media_type: str, media: Document) -> str:
    schema = media["schema"]
    return _kind(schema) if "$ref" in schema else f"`{media_type}`"


def _schema(schema: Document) -> Iterator[str]:
    if meaning := schema.get("description"):
        yield from (_cell(meaning), "")
    yield from ("| name | type | |", "|---|---|---|")
    yield from _rows(schema, prefix="", needed=set(schema.get("required", ())))


def _rows(schema: Document, *, prefix: str, needed: set[str]) -> Iterator[str]:
    """One row a name; those of an object inside follow it."""
    is_request = schema.get("additionalProperties") is False
    for name, field in schema["properties"].items():
        must = ", needed" if is_request and name in needed else ""
        told = f"{_cell(field['description'])}{_bounds(field)}"
        yield f"| `{prefix}{name}` | {_kind(field)}{must} | {told} |"
        inside = field.get("items", field)
        if "properties" in inside:
            yield from _rows(inside, prefix=f"{prefix}{name}.", needed=set())


def _kind(schema: Document) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    kind = "file" if schema.get("format") == "binary" else kinds[0]
    return f"{kind}?" if "null" in kinds else kind


def _bounds(field: Document) -> str:
    told = [words.format(field[name]) for name, words in BOUNDS.items() if field.get(name)]
    choices = [f"`{choice}`" for choice in field.get("enum", ()) if choice is not None]
    if len(choices) > 12:  # the error codes have a page of their own
        choices = ["one of [errors.md](errors.md)"]
    return f" ({'; '.join([*told, ', '.join(choices)]).strip('; ')})" if told or choices else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
