"""Modal Dicts of a control plane on loopback, and requests at which a test may step in."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import modal

from infinitetalk.jobs.modal_store import ModalJobStore
from tests.modal_control_plane.plane import ControlPlane


class Moment:
    """Does something before the request of this number, counted from 0."""

    def __init__(self, number: int, do: Callable[[], object]) -> None:
        self._left = number
        self._do = do
        self.came = False

    def tick(self) -> None:
        self._left -= 1
        if self._left < 0 and not self.came:
            self.came = True
            self._do()


class Watched:
    """A Dict that lets a moment know of every request."""

    def __init__(self, entries: modal.Dict, moment: Moment) -> None:
        self._entries = entries
        self._moment = moment

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._entries, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self._moment.tick()
            return method(*arguments, **options)

        return call


@dataclass(frozen=True, slots=True)
class Fleet:
    """The Dicts of one fleet; every store is what another container has."""

    jobs: modal.Dict
    open: modal.Dict
    ended: modal.Dict

    def store(self, moment: Moment | None = None, **options: Any) -> ModalJobStore:
        """A store that looks at the Dicts themselves at every call, unless told otherwise."""
        dicts: list[Any] = [self.jobs, self.open, self.ended]
        if moment is not None:
            dicts = [Watched(entries, moment) for entries in dicts]
        return ModalJobStore(*dicts, **{"open_s": 0.0, "ended_s": 0.0, **options})

    def content(self) -> str:
        """Everything that is stored."""
        return str([dict(entries.items()) for entries in (self.jobs, self.open, self.ended)])


class Dicts:
    """Makes Dicts on a plane."""

    def __init__(self, plane: ControlPlane) -> None:
        self._client = plane.client()

    def make(self) -> modal.Dict:
        name = f"dict-{uuid.uuid4().hex}"
        entries = modal.Dict.from_name(name, create_if_missing=True, client=self._client)
        return entries.hydrate()

    def fleet(self) -> Fleet:
        return Fleet(self.make(), self.make(), self.make())

    def fleets(self) -> Iterator[Fleet]:
        """One after another, for every point at which something may happen."""
        while True:
            yield self.fleet()
