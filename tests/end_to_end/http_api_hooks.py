"""What schemathesis is told beside the description: media that are media, and jobs that there are.

It is loaded in the process of schemathesis, by the variable SCHEMATHESIS_HOOKS. Every second
request that is valid gets them; the others stay as they were made up.
"""

import json
import os
from itertools import count
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.transport.serialization import Binary

KNOWN = json.loads(Path(os.environ["HTTP_API_KNOWN"]).read_text("utf-8"))
"""`jobs`: ids; `image`, `audio`: paths."""
FILES = {name: Binary(Path(KNOWN[name]).read_bytes()) for name in ("image", "audio")}
KEPT = ("prompt", "seed")
turn = count()

# Its own strategy for files makes a type up that its own validator does not take (4.32.5).
schemathesis.openapi.format("binary", st.text(max_size=100))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Put what is known into a case that was meant to be valid."""
    number = next(turn)
    if number % 2 or not is_valid(case):
        return
    if case.media_type == "multipart/form-data" and isinstance(case.body, dict):
        kept = {name: case.body[name] for name in KEPT if name in case.body}
        case.body = {**kept, "max_seconds": 0.2, **FILES}
        case._meta = None  # files of its caller it takes for invalid
    if case.method != "DELETE":
        name_job(case, KNOWN["jobs"][number // 2 % len(KNOWN["jobs"])])


def is_valid(case: Any) -> bool:
    """Whether every part of the request was meant to be valid."""
    if case.meta is None:
        return True
    parts = [case.meta.generation, *case.meta.components.values()]
    return all(part.mode.value == "positive" for part in parts)


def name_job(case: Any, job: str) -> None:
    """Ask for this job, if the call is about one."""
    for values in (case.query, case.path_parameters):
        for name in {"task_id", "call_id", "job_id"} & values.keys():
            values[name] = job
