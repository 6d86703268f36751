"""A Modal Dict as the fleet's records use it: text as keys, plain values, our own errors.

Every call is one request to Modal, 10 to 20 ms away, and atomic for its key. What is not here: a
change that depends on what an entry holds. Modal can only create one that does not exist yet.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import modal
from grpclib.exceptions import StreamTerminatedError
from modal import exception

from infinitetalk.errors import StoreBusy, StoreCorrupt

T = TypeVar("T")
Nanoseconds = Callable[[], int]
"""A clock: nanoseconds since 1970, UTC."""

PASSING = (
    *(exception.ServiceError, exception.ConnectionError, exception.InternalError),
    *(exception.ResourceExhaustedError, exception.ConflictError, exception.TimeoutError),
    *(exception.ClientClosed, StreamTerminatedError, OSError),
)


class Table:
    """The entries of one Dict.

    Every method raises StoreBusy when Modal cannot be reached, after the client's own repetitions:
    a write may have arrived all the same. StoreCorrupt is what cannot be unpickled.
    """

    def __init__(self, entries: modal.Dict) -> None:
        self._entries = entries

    def get(self, key: str) -> Any:
        """The value, None where there is no entry."""
        with our_errors():
            return self._entries.get(key)

    def create(self, key: str, value: Any) -> bool:
        """Put an entry where there is none; False, and nothing done, where there is one."""
        with our_errors():
            return self._entries.put(key, value, skip_if_exists=True)

    def put(self, key: str, value: Any) -> None:
        self.update({key: value})

    def update(self, entries: Mapping[str, Any]) -> None:
        """Put several entries with one request."""
        with our_errors():
            self._entries.update(entries)

    def drop(self, key: str) -> None:
        """Remove the entry, if there is one."""
        with our_errors():
            self._entries.pop(key, None)

    def names(self) -> list[str]:
        """All keys, with one request."""
        with our_errors():
            return list(self._entries.keys())

    def items(self) -> dict[str, Any]:
        """All entries, with one request."""
        with our_errors():
            return dict(self._entries.items())


class Copy(Generic[T]):
    """All entries of a table as they were at most `keep_s` seconds ago, with one's own changes.

    Many threads may ask at once, and one of them looks.
    """

    def __init__(
        self, table: Table, parse: Callable[[Any], T], keep_s: float, clock: Nanoseconds
    ) -> None:
        self._table = table
        self._parse = parse
        self._keep_ns = int(keep_s * 1e9)
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: Mapping[str, tuple[Any, T]] = {}  # replaced, never changed: it is lent out
        self._taken: int | None = None

    def read(self) -> dict[str, T]:
        """The entries; a request only if the last look was too long ago."""
        with self._lock:
            if self._taken is None or not 0 <= self._clock() - self._taken < self._keep_ns:
                self._look()
            entries = self._entries
        return {key: parsed for key, (_, parsed) in entries.items()}

    def seen(self) -> set[str]:
        """The keys at the last look, however long ago."""
        return set(self._entries)

    def note(self, key: str, value: Any) -> None:
        """One's own change, after it was made."""
        with self._lock:
            self._entries = {**self._entries, key: (value, self._parse(value))}

    def drop(self, key: str) -> None:
        """One's own removal, after it was made."""
        with self._lock:
            self._entries = {name: entry for name, entry in self._entries.items() if name != key}

    def expire(self) -> None:
        """Look again when next asked."""
        with self._lock:
            self._taken = None

    def _look(self) -> None:
        taken, items = self._clock(), self._table.items()
        self._entries = {key: self._parsed(key, value) for key, value in items.items()}
        self._taken = taken

    def _parsed(self, key: str, value: Any) -> tuple[Any, T]:
        before = self._entries.get(key)
        if before is not None and before[0] == value:
            return before  # most entries stay as they are, and parsing is what takes the time
        return value, self._parse(value)


@contextmanager
def our_errors() -> Iterator[None]:
    """What Modal's client raises, as errors of ours.

    Raises:
        StoreBusy: Modal cannot be reached, or takes no more requests for now.
        StoreCorrupt: it gave something that cannot be unpickled.
    """
    try:
        yield
    except PASSING as error:
        raise StoreBusy("The job store cannot be reached now, try again later.") from error
    except exception.DeserializationError as error:
        raise StoreCorrupt("An entry of the job store cannot be read.") from error
