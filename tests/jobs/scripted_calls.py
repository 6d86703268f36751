"""Calls of a platform that does what the test says, for the fleet's queue and its engines."""

from collections.abc import Callable

from infinitetalk.errors import StoreBusy
from infinitetalk.jobs.modal_calls import Outcome


class ScriptedCalls:
    """Every call runs until the test decides otherwise; the first one is called `fc-1`."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}  # call -> job
        self.stopped: list[tuple[str, bool]] = []  # and whether with its container
        self.is_reachable = True
        self.when_asked: Callable[[str], object] = lambda call_id: None
        self._outcomes: dict[str, Outcome] = {}

    def end(self, call_id: str, outcome: Outcome = Outcome.ENDED) -> None:
        self._outcomes[call_id] = outcome

    def of(self, job_id: str) -> list[str]:
        """The calls of a job."""
        return [call for call, called in self.made.items() if called == job_id]

    def spawn(self, job_id: str) -> str:
        self._reach()
        call = f"fc-{len(self.made) + 1}"
        self.made[call] = job_id
        return call

    def outcome(self, call_id: str) -> Outcome:
        self._reach()
        self.when_asked(call_id)
        return self._outcomes.get(call_id, Outcome.RUNNING)

    def stop(self, call_id: str, *, with_container: bool) -> None:
        self._reach()
        self.stopped.append((call_id, with_container))

    def _reach(self) -> None:
        if not self.is_reachable:
            raise StoreBusy("The platform cannot be reached.")
