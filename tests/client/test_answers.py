"""Refusals become our errors, whoever they come from."""

from inspect import getmembers, isclass

import httpx
import pytest

from infinitetalk import errors
from infinitetalk.client.answers import refusal
from infinitetalk.errors import InfiniteTalkError
from tests.client.talking import Connect, Files, Pauses
from tests.scripted_server import Answer, ScriptedServer, problem

KINDS = [kind for _, kind in getmembers(errors, isclass) if issubclass(kind, InfiniteTalkError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_of_the_server_is_rebuilt_as_itself(kind: type[InfiniteTalkError]) -> None:
    error = refusal(httpx.Response(kind.status, content=problem(kind.status, kind.code).body))
    assert (type(error), error.message) == (kind, f"The sentence of {kind.code}.")


def test_a_code_of_tomorrow_keeps_its_sentence(connect: Connect) -> None:
    with ScriptedServer(problem(418, "teapot")) as server, pytest.raises(InfiniteTalkError) as said:
        connect(server).info()
    assert (type(said.value), said.value.message) == (InfiniteTalkError, "The sentence of teapot.")


@pytest.mark.parametrize(
    ("final", "kind"),
    [
        (problem(400, "malformed_request"), errors.MalformedRequest),
        (problem(401, "unauthenticated"), errors.Unauthenticated),
        (problem(404, "job_not_found"), errors.JobNotFound),
        (problem(409, "job_busy"), errors.JobBusy),
        (problem(413, "input_too_large"), errors.InputTooLarge),
        (problem(422, "invalid_field"), errors.InvalidField),
        (problem(500, "worker_lost"), errors.WorkerLost),
        (problem(503, "weights_missing"), errors.WeightsMissing),
        (problem(507, "storage_full"), errors.StorageFull),
        (Answer(401, b"missing credentials"), errors.Unauthenticated),
        (Answer(403, b"<html>"), errors.Unauthenticated),
        (Answer(404, b"<html>"), errors.Unavailable),
        (Answer(500, b'["a list"]'), errors.Unavailable),
        (Answer(200, b"<html>hello</html>"), errors.Unavailable),
        (Answer(200, b"[]"), errors.Unavailable),
    ],
)
def test_what_cannot_pass_is_raised_at_once(
    final: Answer, kind: type[InfiniteTalkError], connect: Connect, files: Files, pauses: Pauses
) -> None:
    with ScriptedServer(final) as server, pytest.raises(InfiniteTalkError) as caught:
        connect(server).submit(*files)
    assert (type(caught.value), pauses.taken) == (kind, [])
