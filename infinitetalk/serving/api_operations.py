"""Every call of the HTTP API as data, for `openapi`: what it takes, and every answer it can give.

Which routes there are is decided elsewhere (`protocol`, `app`, BentoML); tests hold the two
together. Successes are written down, errors are named by their classes in `errors`.
"""

from infinitetalk.errors import (
    AcceptanceFailed,
    AttentionUnavailable,
    Canceled,
    CompilerUnavailable,
    ConsentMissing,
    DeviceTooSmall,
    DeviceUnavailable,
    Draining,
    FileMissing,
    IdempotencyMismatch,
    InvalidField,
    InvalidInput,
    JobBusy,
    JobExpired,
    JobNotFinished,
    JobNotFound,
    MalformedRequest,
    NotReady,
    Refused,
    RenderFailed,
    SourceTimeout,
    StorageFull,
    StoreBusy,
    StoreCorrupt,
    Unauthenticated,
    WaitTimeout,
    WeightsCorrupt,
    WeightsMissing,
)
from infinitetalk.serving.api_operation import Answer, Operation, kinds, named, parameter, told
from infinitetalk.serving.api_schemas import Schema
from infinitetalk.serving.backend import MAX_KEY_CHARACTERS
from infinitetalk.serving.metrics import CONTENT_TYPE as METRICS
from infinitetalk.serving.playlist import CONTENT_TYPE as PLAYLIST

BINARY: Schema = {"type": "string", "format": "binary"}
TEXT: Schema = {"type": "string"}
FORM = {"boxes": {"contentType": "application/json"}}

TASK_ID = parameter("task_id", "query", "What the submit answered.")
CALL_ID = parameter("call_id", "query", "What the submit answered.")
JOB_ID = parameter("job_id", "path", "The task_id of a submit.", pattern="^[0-9a-f]{32}$")
SEGMENT = parameter(
    "name", "path", "As the playlist names it.", pattern="^(init\\.mp4|[0-9]{5,9}\\.m4s)$"
)
PAGE_FILE = parameter("name", "path", "A file of the page.", pattern="^[a-z-]+\\.[a-z]+$")
IDEMPOTENCY_KEY = parameter(
    "Idempotency-Key",
    "header",
    "However often a request is sent with the same key, it makes one job. Printable characters.",
    minLength=1,
    maxLength=MAX_KEY_CHARACTERS,
)
RANGE = parameter("Range", "header", "A part of the file, such as bytes=0-99.")
KNOWN = parameter("If-None-Match", "header", "The ETag of a copy that is there already.")

CALLER = frozenset({Unauthenticated, InvalidField, NotReady, Draining, StoreBusy, StoreCorrupt})
"""Every call with a key: the key, the idempotency key that is read with it, the store behind it."""
FIND = CALLER | {MalformedRequest, JobNotFound, JobExpired}
INPUT = kinds(InvalidInput) - {FileMissing}
TAKE = CALLER | INPUT | kinds(Refused) | {SourceTimeout, StorageFull, WeightsMissing}
OF_THE_JOB = (
    frozenset({Canceled, JobNotFinished, JobBusy, StorageFull, WeightsMissing, WeightsCorrupt})
    | frozenset({DeviceTooSmall, DeviceUnavailable, AttentionUnavailable, CompilerUnavailable})
    | INPUT
    | kinds(RenderFailed) - {AcceptanceFailed}
)
"""What a result can answer: why it is not there, or the error of the job itself."""

ETAG = {"ETag": "Names these bytes; for If-None-Match."}
VIDEO = Answer(200, "The video.", {"video/mp4": BINARY}, ETAG)
PARTS = (
    Answer(206, "The part that was asked for.", {"video/mp4": BINARY}, ETAG),
    Answer(304, "The copy that is there is good.", headers=ETAG),
    Answer(400, "The Range cannot be read.", {"text/plain": TEXT}),
    Answer(416, "The file is not so long.", {"text/plain": TEXT}),
)
HEAD = (Answer(200, "As GET, without the body.", headers=ETAG),)
NEW_TASK = told("Task", "The job, or the one that this key made before.")
FIELDS = {
    "multipart/form-data": {"schema": named("GenerateForm"), "encoding": FORM},
    "application/json": {"schema": named("GenerateFields")},
    "application/x-www-form-urlencoded": {"schema": named("GenerateFields"), "encoding": FORM},
}
WATCH = FIND | OF_THE_JOB

TASKS, JOBS, OLD, HOST, PAGE = "tasks", "jobs", "the old API", "the service", "the page"
GROUPS = {
    TASKS: "BentoML's task protocol.",
    JOBS: "More about a job.",
    OLD: "The calls of the project that this one replaces.",
    HOST: "What is deployed, and how it is.",
    PAGE: "The page for a browser.",
}

OPERATIONS = (
    Operation(
        "submit",
        "post",
        "/generate/submit",
        TASKS,
        "Have a video rendered.",
        (NEW_TASK,),
        TAKE,
        (IDEMPOTENCY_KEY,),
        FIELDS,
        starts="task_id",
    ),
    Operation(
        "status",
        "get",
        "/generate/status",
        TASKS,
        "Where a job is.",
        (told("JobStatus", "The job."),),
        FIND,
        (TASK_ID,),
    ),
    Operation(
        "get",
        "get",
        "/generate/get",
        TASKS,
        "The video.",
        (VIDEO, *PARTS),
        FIND | OF_THE_JOB,
        (TASK_ID, RANGE, KNOWN),
    ),
    Operation(
        "head",
        "head",
        "/generate/get",
        TASKS,
        "Whether the video is there.",
        HEAD,
        FIND | OF_THE_JOB,
        (TASK_ID,),
    ),
    Operation(
        "cancel",
        "put",
        "/generate/cancel",
        TASKS,
        "Cancel a job, within a denoising step.",
        (told("Task", "The job; one that had ended is unchanged."),),
        FIND,
        (TASK_ID,),
    ),
    Operation(
        "cancel_by_post",
        "post",
        "/generate/cancel",
        TASKS,
        "The same.",
        (told("Task", "The job; one that had ended is unchanged."),),
        FIND,
        (TASK_ID,),
    ),
    Operation(
        "retry",
        "post",
        "/generate/retry",
        TASKS,
        "The same input and seed as a new job.",
        (NEW_TASK,),
        FIND
        | kinds(Refused)
        | {*(JobNotFinished, ConsentMissing, IdempotencyMismatch, StorageFull, WeightsMissing)},
        (TASK_ID, IDEMPOTENCY_KEY),
        starts="task_id",
    ),
    Operation(
        "generate",
        "post",
        "/generate",
        TASKS,
        "Submit, wait for the end, get the video.",
        (VIDEO,),
        TAKE | OF_THE_JOB | {JobExpired, WaitTimeout},
        (IDEMPOTENCY_KEY,),
        FIELDS,
    ),
    Operation(
        "job",
        "get",
        "/v1/jobs/{job_id}",
        JOBS,
        "Where a job is.",
        (told("JobStatus", "The job."),),
        FIND,
        (JOB_ID,),
    ),
    Operation(
        "erase",
        "delete",
        "/v1/jobs/{job_id}",
        JOBS,
        "Cancel a job and erase all files of it.",
        (Answer(204, "It is gone."),),
        FIND,
        (JOB_ID,),
    ),
    Operation(
        "events",
        "get",
        "/v1/jobs/{job_id}/events",
        JOBS,
        "The status of a job whenever it changes, as server-sent events.",
        (
            Answer(
                200,
                "Events called status, each a JobStatus.",
                {"text/event-stream": named("StatusEvent")},
            ),
        ),
        FIND,
        (JOB_ID,),
    ),
    Operation(
        "playlist",
        "get",
        "/v1/jobs/{job_id}/playlist.m3u8",
        JOBS,
        "The finished windows of a job, for a player (HLS).",
        (
            Answer(200, "Grows until the job has ended.", {PLAYLIST: TEXT}, ETAG),
            Answer(304, "The copy that is there is good.", headers=ETAG),
        ),
        WATCH,
        (JOB_ID, KNOWN),
    ),
    Operation(
        "segment",
        "get",
        "/v1/jobs/{job_id}/segments/{name}",
        JOBS,
        "One window, or what a player needs before the first.",
        (
            Answer(
                200,
                "Fragmented mp4.",
                {"video/mp4": BINARY, "video/iso.segment": BINARY},
                ETAG,
            ),
            Answer(304, "The copy that is there is good.", headers=ETAG),
        ),
        WATCH,
        (JOB_ID, SEGMENT, KNOWN),
    ),
    Operation(
        "submit_urls",
        "post",
        "/submit",
        OLD,
        "Have a video rendered.",
        (told("Call", "The job."),),
        TAKE,
        (IDEMPOTENCY_KEY,),
        {"application/json": {"schema": named("SubmitFields")}},
        starts="call_id",
    ),
    Operation(
        "result",
        "get",
        "/result",
        OLD,
        "The video, once it is there.",
        (VIDEO, told("CallStatus", "Not yet.", 202), *PARTS),
        FIND | OF_THE_JOB,
        (CALL_ID, RANGE, KNOWN),
    ),
    Operation(
        "result_head",
        "head",
        "/result",
        OLD,
        "Whether the video is there.",
        (*HEAD, Answer(202, "Not yet.")),
        FIND | OF_THE_JOB,
        (CALL_ID,),
    ),
    Operation(
        "queue",
        "get",
        "/v1/queue",
        HOST,
        "How much waits.",
        (told("Queue", "The queue."),),
        CALLER,
    ),
    Operation(
        "info",
        "get",
        "/v1/info",
        HOST,
        "What is deployed.",
        (told("Info", "The deployment."),),
        CALLER,
    ),
    Operation(
        "metrics",
        "get",
        "/v1/metrics",
        HOST,
        "The job layer's metrics for Prometheus.",
        (Answer(200, "The metrics.", {METRICS.partition(";")[0]: TEXT}),),
        frozenset({NotReady, StoreBusy, StoreCorrupt}),
        needs_key=False,
    ),
    Operation(
        "bentoml_metrics",
        "get",
        "/metrics",
        HOST,
        "The same with BentoML's own.",
        (Answer(200, "The metrics.", {"text/plain": TEXT}),),
        needs_key=False,
    ),
    Operation(
        "live",
        "get",
        "/livez",
        HOST,
        "Whether the process answers.",
        (Answer(200, "It does."),),
        needs_key=False,
    ),
    Operation(
        "healthy",
        "get",
        "/healthz",
        HOST,
        "The same under its old name.",
        (Answer(200, "It does."),),
        needs_key=False,
    ),
    Operation(
        "ready",
        "get",
        "/readyz",
        HOST,
        "Whether jobs are taken.",
        (Answer(200, "They are."), Answer(503, "They are not: draining, disk or store.")),
        needs_key=False,
    ),
    Operation(
        "schema",
        "get",
        "/schema.json",
        HOST,
        "What BentoML's clients read.",
        (Answer(200, "The schema.", {"application/json": {"type": "object"}}),),
        needs_key=False,
    ),
    Operation(
        "description",
        "get",
        "/docs.json",
        HOST,
        "This document.",
        (Answer(200, "OpenAPI 3.1.", {"application/json": {"type": "object"}}),),
        needs_key=False,
    ),
    Operation(
        "index",
        "get",
        "/",
        HOST,
        "BentoML's page about this document.",
        (Answer(200, "The page.", {"text/html": TEXT}),),
        needs_key=False,
    ),
    Operation(
        "page",
        "get",
        "/ui/",
        PAGE,
        "The page.",
        (
            Answer(200, "The page.", {"text/html": TEXT}, ETAG),
            Answer(304, "The copy that is there is good."),
        ),
        parameters=(KNOWN,),
        needs_key=False,
    ),
    Operation(
        "page_file",
        "get",
        "/ui/{name}",
        PAGE,
        "What the page loads.",
        (
            Answer(200, "The file.", {"*/*": BINARY}, ETAG),
            Answer(304, "The copy that is there is good."),
            Answer(404, "There is no such file.", {"text/plain": TEXT}),
        ),
        parameters=(PAGE_FILE, KNOWN),
        needs_key=False,
    ),
    Operation(
        "page_example",
        "get",
        "/ui/example/{name}",
        PAGE,
        "The example that the page offers.",
        (
            Answer(200, "The file.", {"*/*": BINARY}, ETAG),
            Answer(304, "The copy that is there is good."),
            Answer(404, "There is no such file.", {"text/plain": TEXT}),
        ),
        parameters=(PAGE_FILE, KNOWN),
        needs_key=False,
    ),
)
