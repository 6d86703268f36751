"""Calls of the GPU function: Modal's own queue, and its word on what became of a call.

A call stays "running" for as long as Modal means to run it: while it waits, while it is worked on,
and after a crash or a preemption, which Modal answers by running the same input again.
"""

from enum import StrEnum
from typing import Any, Protocol

import modal
from modal.exception import FunctionTimeoutError

from infinitetalk.jobs.modal_table import PASSING, our_errors


class Outcome(StrEnum):
    """What became of a call."""

    RUNNING = "running"  # or waiting
    TIMED_OUT = "timed out"
    ENDED = "ended"  # returned, raised, was stopped, or so long ago that Modal forgot it


class Calls(Protocol):
    """What the fleet's queue asks of the platform. Every method raises StoreBusy."""

    def spawn(self, job_id: str) -> str:
        """Have a GPU container run a job some time; the id of the call."""

    def outcome(self, call_id: str) -> Outcome: ...

    def stop(self, call_id: str, *, with_container: bool) -> None:
        """Take a call back; `with_container` ends the container that is at it, too."""


class ModalCalls:
    """Calls of one function.

    Args:
        function: takes the id of a job.
    """

    def __init__(self, function: Any, client: modal.Client | None = None) -> None:
        self._function = function
        self._client = client

    def spawn(self, job_id: str) -> str:
        with our_errors():
            return str(self._function.spawn(job_id).object_id)

    def outcome(self, call_id: str) -> Outcome:
        with our_errors():
            return self._outcome(call_id)

    def stop(self, call_id: str, *, with_container: bool) -> None:
        with our_errors():
            self._call(call_id).cancel(terminate_containers=with_container)

    def _outcome(self, call_id: str) -> Outcome:
        try:
            self._call(call_id).get(timeout=0)
        except FunctionTimeoutError:  # before its relatives among PASSING
            return Outcome.TIMED_OUT
        except modal.exception.OutputExpiredError:
            return Outcome.ENDED
        except TimeoutError:  # the builtin one: there is nothing to get yet
            return Outcome.RUNNING
        except OSError:  # the function's own: of its connection the client has errors of its own
            return Outcome.ENDED
        except PASSING:
            raise
        except Exception:  # what the function raised arrives as it was
            return Outcome.ENDED
        return Outcome.ENDED

    def _call(self, call_id: str) -> "modal.FunctionCall[object]":
        return modal.FunctionCall.from_id(call_id, self._client)
