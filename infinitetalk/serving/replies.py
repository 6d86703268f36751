"""The one shape of every error over HTTP, and the id every request has.

{"error": "<sentence>", "code": "...", "field": null, "retryable": false, "request_id": "..."}
"""

import logging
import math
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from infinitetalk.errors import InfiniteTalkError, Unauthenticated
from infinitetalk.jobs.model import Problem

Handler = Callable[[Request], Awaitable[Response]]
SERVER = "BentoML Service/infinitetalk"  # as BentoML calls itself on its own routes
log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_CODES = {404: "not_found", 405: "method_not_allowed"}


def request_id(request: Request) -> str:
    """The caller's `x-request-id` if it is a harmless one, else ours; the same on every call."""
    if "infinitetalk.request_id" not in request.scope:
        given = request.headers.get("x-request-id", "")
        chosen = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request.scope["infinitetalk.request_id"] = chosen
    return str(request.scope["infinitetalk.request_id"])


def problem_reply(
    request: Request, problem: Problem, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An error in our shape."""
    body = {
        "error": problem.message,
        "code": problem.code,
        "field": problem.field,
        "retryable": problem.retryable,
        "request_id": request_id(request),
    }
    return JSONResponse(body, problem.status, headers)


def answering(handler: Handler) -> Handler:
    """The handler with every error answered in our shape, and the headers that all answers have."""

    async def answer(request: Request) -> Response:
        try:
            response = await handler(request)
        except InfiniteTalkError as error:
            response = problem_reply(request, Problem.of(error), _headers_of(error))
        except ClientDisconnect:
            response = Response(status_code=499)  # nobody reads it
        except Exception:
            log.exception("request %s failed", request_id(request))
            unexpected = InfiniteTalkError("Something broke that should not.")
            response = problem_reply(request, Problem.of(unexpected))
        response.headers["x-request-id"] = request_id(request)
        response.headers["server"] = SERVER
        return response

    return answer


async def refuse_route(request: Request, error: Exception) -> Response:
    """What a router says to an unknown path or method, in our shape."""
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "http_error")
    problem = Problem(code, f"{error.detail}.", error.status_code, retryable=False)
    return problem_reply(request, problem, error.headers)


def _headers_of(error: InfiniteTalkError) -> dict[str, str]:
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    return headers
