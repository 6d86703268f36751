"""A hub on loopback that speaks what `huggingface_hub` asks for, and fails as it is told.

Like the real one it has two faces: the hub itself, with accounts, revisions and descriptions; and a
store, elsewhere, where large files are, behind addresses that are signed and that no token may be
sent to. What was asked and how many bytes were served is kept.
"""

import sys
import threading
from collections.abc import Collection, Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.fake_hub.faces import Face, HubFace, StoreFace
from tests.fake_hub.layout import Snapshot, read_table
from tests.fake_hub.traffic import Asked, Fault


class FakeHub:
    """Serves a folder that `build` has made, in a `with` block."""

    def __init__(
        self,
        folder: Path,
        *faults: Fault,
        port: int = 0,
        gated: Collection[str] = (),
        tokens: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """Args:
        gated: repositories that want a licence accepted.
        tokens: valid ones, each with the gated repositories that it may read.
        """
        self.folder = folder
        self.snapshots = read_table(folder)
        self.gated = gated
        self.tokens = tokens or {}
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self._faults = list(faults)
        self._lock = threading.Lock()
        self._hub = _Server(self, HubFace, port)
        self._store = _Server(self, StoreFace, 0)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._hub.server_port}"

    @property
    def store(self) -> str:
        """At another host, as far as a client can see."""
        return f"http://localhost:{self._store.server_port}"

    def served(self, where: str = "") -> int:
        """Bytes of content sent of the files whose address contains `where`."""
        return sum(asked.sent for asked in self.asked if where in asked.path)

    def fail(self, *faults: Fault) -> None:
        """Let this go wrong from now on."""
        with self._lock:
            self._faults.extend(faults)

    def next_fault(self, method: str, path: str, *, spoils_content: bool) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if (
                    fault.times
                    and fault.where in path
                    and fault.method in (None, method)
                    and fault.spoils_content == spoils_content
                ):
                    fault.times -= 1
                    return fault
        return None

    def snapshot(self, repo: str, revision: str) -> Snapshot | None:
        matching = (one for one in self.snapshots if one.repo == repo)
        return next((one for one in matching if revision in (one.branch, one.commit)), None)

    def __enter__(self) -> Self:
        self._hub.start()
        self._store.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._hub.stop()
        self._store.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: FakeHub, handler: type[Face], port: int) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", port), handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away, killed ones above all, are no error of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)
