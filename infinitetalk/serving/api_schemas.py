"""JSON Schemas (2020-12) of what the HTTP API takes and answers, for `openapi`.

What a request may hold is told by `request` itself; answers are written down here, and tests
compare them with what the service really says.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from infinitetalk.jobfolder import MEDIA_FIELDS
from infinitetalk.jobs.engines import EngineState
from infinitetalk.jobs.model import Status
from infinitetalk.jobs.outbox import Kind, State
from infinitetalk.progress import Stage
from infinitetalk.serving.check import KINDS
from infinitetalk.serving.request import GenerateRequest

Schema = Mapping[str, Any]

FILES = {
    "image": "Picture or video of who speaks.",
    "audio": "Speech, or a video with sound.",
    "audio_2": "The voice of a second speaker.",
}
ROUTER_CODES = ("not_found", "method_not_allowed", "http_error")  # what `replies` says of paths


def components() -> dict[str, Schema]:
    """Every schema that has a name."""
    return {
        "GenerateFields": generate_fields(),
        "GenerateForm": generate_form(),
        "SubmitFields": SUBMIT_FIELDS,
        "Task": TASK,
        "Call": _object({"call_id": _text("Id of the job.")}),
        "CallStatus": _object(
            {"call_id": _text("Id of the job."), "status": _one_of(Status, "Where the job is.")}
        ),
        "JobStatus": JOB_STATUS,
        "StatusEvent": STATUS_EVENT,
        "Queue": QUEUE,
        "Info": INFO,
        "Error": error_schema(),
    }


def generate_fields() -> Schema:
    """The fields of a request without files: those of `GenerateRequest`, and two URLs at least."""
    fields = {name: _present(field) for name, field in _request_fields().items()}
    return {
        "type": "object",
        "properties": fields,
        "required": ["image_url", "audio_url"],
        "additionalProperties": False,
    }


def generate_form() -> Schema:
    """The same as a form, with files."""
    files = {
        name: {"type": "string", "format": "binary", "description": FILES[name]}
        for name in MEDIA_FIELDS
    }
    return {
        "type": "object",
        "description": "A picture is needed, as image or image_url, and speech, as audio or "
        "audio_url.",
        "properties": {**files, **generate_fields()["properties"]},
        "additionalProperties": False,
    }


def error_schema() -> Schema:
    """The one shape of every error."""
    codes = sorted({*KINDS, *ROUTER_CODES})
    return _object(
        {
            "error": _text("What is wrong, in one sentence."),
            "code": {**_text("The same in one word that never changes."), "enum": codes},
            "field": _or_null(_text("The field of the request that it is about.")),
            "retryable": _flag("Whether the same request may succeed later."),
            "request_id": _text("The X-Request-Id of the request, or one of ours."),
        }
    )


def _request_fields() -> Mapping[str, Schema]:
    schema = GenerateRequest.model_json_schema()
    places = schema.get("$defs", {})
    return {name: _resolved(field, places) for name, field in schema["properties"].items()}


def _resolved(field: Schema, places: Mapping[str, Schema]) -> Schema:
    kinds = [_named(kind, places) for kind in field["anyOf"]]
    return {**field, "anyOf": kinds}


def _named(kind: Schema, places: Mapping[str, Schema]) -> Schema:
    reference = kind.get("$ref")
    return places[reference.rpartition("/")[2]] if reference else kind


def _present(field: Schema) -> Schema:
    """An optional field as it is when it is there."""
    [kind] = [kind for kind in field["anyOf"] if kind.get("type") != "null"]
    told = {name: kind[name] for name in kind if name not in ("title", "description")}
    return {**told, "description": field["description"]}


def _object(properties: Mapping[str, Schema], meaning: str | None = None) -> Schema:
    """An object that has all of these, and may have more in a later version."""
    told = {} if meaning is None else {"description": meaning}
    return {"type": "object", **told, "properties": properties, "required": list(properties)}


def _text(meaning: str) -> Schema:
    return {"type": "string", "description": meaning}


def _whole(meaning: str) -> Schema:
    return {"type": "integer", "minimum": 0, "description": meaning}


def _number(meaning: str) -> Schema:
    return {"type": "number", "minimum": 0, "description": meaning}


def _flag(meaning: str) -> Schema:
    return {"type": "boolean", "description": meaning}


def _list(items: Schema, meaning: str) -> Schema:
    return {"type": "array", "items": items, "description": meaning}


def _one_of(values: type[StrEnum], meaning: str) -> Schema:
    return {**_text(meaning), "enum": [str(value) for value in values]}


def _or_null(schema: Schema) -> Schema:
    choices = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **choices}


def _time(meaning: str) -> Schema:
    return _text(f"{meaning}: UTC, without a zone.")


SUBMIT_FIELDS: Schema = {
    "type": "object",
    "properties": {
        "image": _text("URL of the picture or video."),
        "audio1": _text("URL of the speech."),
        "audio2": _text("URL of a second speaker's voice."),
        "prompt": _present(_request_fields()["prompt"]),
        "consent": _present(_request_fields()["consent"]),
    },
    "required": ["image", "audio1"],
    "additionalProperties": False,
}
TASK = _object({"task_id": _text("Id of the job."), "status": _one_of(Status, "Where the job is.")})
_PROBLEM = _object(
    {
        "code": _text("As in an error."),
        "message": _text("What went wrong, in one sentence."),
        "status": _whole("The HTTP status that asking for the result has."),
        "retryable": _flag("Whether trying again may help."),
        "field": _or_null(_text("The field of the request that it is about.")),
    },
    "Why the job failed.",
)
_VIDEO = _object(
    {
        "sha256": _text("Of the file; it is its ETag, too."),
        "size_bytes": _whole("Of the file."),
        "frames": _whole("Of the video, at 25 a second."),
        "windows": _whole("It was rendered in so many."),
    },
    "The video.",
)
_DELIVERIES: Schema = {
    "type": "object",
    "description": "How far the webhook and the upload are, where they were asked for.",
    "properties": {str(kind): _one_of(State, f"Of the {kind}.") for kind in Kind},
}
STAGES: Schema = {
    "type": "object",
    "description": "Seconds of each stage so far, over all attempts.",
    "properties": {str(stage): _number(f"Seconds of {stage}.") for stage in Stage},
}
JOB_STATUS = _object(
    {
        "task_id": _text("Id of the job."),
        "status": _one_of(Status, "Where the job is."),
        "created_at": _time("When it was accepted"),
        "executed_at": _or_null(_time("When rendering began")),
        "completed_at": _or_null(_time("When it ended")),
        "stage": _or_null(_one_of(Stage, "What is being done to it.")),
        "progress": {**_number("How much of it is done."), "maximum": 1},
        "window": _whole("The window that is being rendered, from 1."),
        "windows": _whole("How many there are; 0 until that is known."),
        "step": _whole("The denoising step of the window, from 1."),
        "steps": _whole("Denoising steps of a window."),
        "skipped_steps": _whole("Steps that the step cache left out so far."),
        "queue_position": _or_null(_whole("1 is the next; null when it does not wait.")),
        "eta_s": _or_null(_number("Seconds until it is done, as far as that is known.")),
        "seconds": _number("Length of the video."),
        "preset": _text("What it is rendered with."),
        "resolution": _text("As in the request, or the preset's."),
        "seed": _whole("The same fields with this seed make the same video."),
        "attention": _or_null(_text("The attention backend that was used.")),
        "fallback_windows": _whole(
            "Windows that came out broken and were rendered again with SDPA."
        ),
        "gpu_seconds": _number("Used so far, over all attempts."),
        "cost_usd": _number("Of those."),
        "stages": STAGES,
        "attempt": _whole("How often rendering was begun."),
        "retry_of": _or_null(_text("Id of the job that this one repeats.")),
        "consent": _or_null(_text("As in the request.")),
        "error": _or_null(_PROBLEM),
        "video": _or_null(_VIDEO),
        "deliveries": _DELIVERIES,
    }
)
STATUS_EVENT = _object(
    {
        "event": {**_text("Its name."), "const": "status"},
        "data": {
            **_text("The JobStatus as JSON."),
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/JobStatus"},
        },
    },
    "One event of the stream.",
)
QUEUE = _object(
    {
        "pending": _whole("Jobs that wait."),
        "in_progress": _whole("Jobs that are being rendered."),
        "oldest_pending_s": _number("How long the first of those that wait has waited."),
        "limit": _whole("So many may wait."),
    }
)
_PRESET = _object(
    {
        "name": _text("Its name."),
        "use": _text("What it is for."),
        "caveat": _or_null(_text("What to know of its results.")),
        "why": _or_null(_text("Why it was taken and no better one.")),
        "resolutions": _list(_text("A resolution."), "What a request may ask for."),
        "steps": _whole("By default."),
        "max_steps": _whole("The most that a request may ask for."),
        "text_guidance": _number("By default."),
        "audio_guidance": _number("By default."),
    },
    "The preset that is deployed.",
)
_LIMITS = _object(
    {
        "max_audio_seconds": _number("Longest speech."),
        "max_image_megapixels": _number("Largest picture."),
        "max_video_megapixels": _number("Largest frame of a video."),
        "max_file_megabytes": _number("Largest file."),
        "max_prompt_characters": _whole("Longest prompt."),
        "min_speech_seconds": _number("Shortest speech."),
        "max_queue": _whole("So many jobs may wait."),
        "retention_hours": _number("A finished job is kept so long."),
    },
    "What a request may have.",
)
_ENGINE = _object(
    {
        "slot": _text("Which one it is."),
        "state": _one_of(EngineState, "How it is."),
        "pid": _whole("Its process."),
        "since": _number("Seconds since 1970, UTC."),
        "preset": _text("What it renders with."),
        "device": _or_null(_text("Name of the GPU, or cpu.")),
        "attention": _or_null(_text("The attention backend.")),
        "resolutions": _list(_text("A resolution."), "What its memory holds; empty until known."),
        "speakers": _or_null(_whole("How many voices its weights tell apart.")),
        "error": _or_null(_text("The code of what it died of.")),
    }
)
INFO = _object(
    {
        "service": _text("infinitetalk."),
        "version": _text("Of the service."),
        "preset": _PRESET,
        "limits": _LIMITS,
        "needs_key": _flag("Whether an API key is needed."),
        "needs_consent": _flag("Whether the field consent is needed."),
        "label": _or_null(_text("What is drawn into every frame.")),
        "engines": _list(_ENGINE, "The processes that render."),
    }
)
