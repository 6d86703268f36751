"""A control plane of Modal on loopback, for the real client, its CLI and its container runtime.

It keeps what is asked of it, so that tests can claim what a deployment is. It is no model of
Modal's scheduling, capacity, image builds, isolation or prices.
"""

import asyncio
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypeVar

import modal
from aiohttp import web
from grpclib import Status
from modal._utils.grpc_utils import custom_detail_codec
from modal_proto import api_pb2 as api

from tests.modal_control_plane.calls import Calls
from tests.modal_control_plane.containers import Container
from tests.modal_control_plane.deployments import Deployments
from tests.modal_control_plane.storage import Content, Dicts, Volumes
from tests.modal_control_plane.web import Web
from tests.modal_control_plane.wire import BusyServer, Fault, Wire

T = TypeVar("T")
REPOSITORY = Path(__file__).parents[2]
PROXY_TOKEN = {"Modal-Key": "wk-fake", "Modal-Secret": "ws-fake"}
TOKEN = ("ak-fake", "as-fake")


class ControlPlane:
    """Serves in a thread of its own for as long as a `with` block lasts.

    `secrets` are the named ones that exist; `requests` is everything asked, by the name of its RPC.
    """

    proxy_token: Mapping[str, str] = MappingProxyType(PROXY_TOKEN)

    def __init__(self, *sources: Path) -> None:
        """Args: sources: the folder of the app's file, if it is not this repository."""
        self._path = os.pathsep.join(str(one) for one in (*sources, REPOSITORY))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="modal-")))
            self._loop = stack.enter_context(_loop_in_thread())
            grpc, http = (stack.enter_context(_listening()) for _ in range(2))
            origins = [f"http://127.0.0.1:{one.getsockname()[1]}" for one in (grpc, http)]
            self.environment = {
                "MODAL_SERVER_URL": origins[0],
                "MODAL_ENVIRONMENT": "main",
                "MODAL_CONFIG_PATH": str(self._folder / "no-config.toml"),
            }
            inside = {**self.environment, "PYTHONPATH": self._path}
            self.environment |= {"MODAL_TOKEN_ID": TOKEN[0], "MODAL_TOKEN_SECRET": TOKEN[1]}
            content, deployed = Content(self._folder / "content", origins[1]), Deployments()

            self.volumes = Volumes(self._folder / "volumes", content)
            self._calls = Calls(deployed, self.volumes, self._folder / "containers", inside)
            parts = (Dicts(), self.volumes, content, deployed, self._calls)
            wire = Wire(parts, self._calls.update)
            self.secrets, self.requests, self._faults = deployed.secrets, wire.requests, wire.faults
            self._web = Web(deployed, self._calls, self.proxy_token)
            self._addresses: dict[str, str] = {}
            self._runners: list[web.AppRunner] = []
            self._do(self._start(grpc, http, wire, content))
            stack.callback(lambda: self._do(self._stop()))
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def client(self) -> modal.Client:
        """For `client=` of `modal.Dict.from_name` and its like; closed with the plane."""
        client = modal.Client(self.environment["MODAL_SERVER_URL"], api.CLIENT_TYPE_CLIENT, TOKEN)
        return self._closing.enter_context(client)

    def requests_of(self, rpc: str) -> list[Any]:
        return [message for name, message in self.requests if name == rpc]

    def fail(self, rpc: str, status: Status, times: int = 1) -> None:
        """Let the next calls of an RPC fail. The client itself repeats most of them three times."""
        self._faults.append(Fault(rpc, status, times))

    def wait(self, claim: Callable[[], object], timeout_s: float = 30) -> None:
        """Until what the plane has seen makes it true. A client can't be asked in `claim`."""
        assert self._do(self._calls.until(claim, timeout_s)), "it did not become true"

    def url_of(self, function: str) -> str:
        """Address of an ASGI function, as it was deployed last."""
        if function not in self._addresses:
            self._addresses[function] = self._do(self._open(partial(self._web.answer, function)))
        return self._addresses[function]

    def containers(self, function: str) -> list[Container]:
        """Those that live, of a function or class."""
        started = [one for one in self._calls.containers if one.process]
        return [one for one in started if one.function.name == function]

    def kill(self, container: Container) -> None:
        """As a crash does it: what it worked at runs again in a new one."""
        self._now(container.signal, signal.SIGKILL)

    def preempt(self, container: Container) -> None:
        """Ask it to end; what it worked at runs again in a new one."""
        self._now(container.signal, signal.SIGINT)

    def duplicate(self, call_id: str) -> None:
        """Deliver an input once more, to a container of its own."""
        call = self._calls.calls[call_id]
        self._now(self._calls.start, call.function, call)

    def hold(self, function: str) -> None:
        """Inputs that come wait until `release`."""
        self._now(self._calls.held.add, function)

    def release(self, function: str) -> None:
        self._now(self._calls.held.remove, function)

    def allow(self, function: str, containers: int) -> None:
        """Let so many work at once; otherwise one does."""
        self._now(self._calls.limits.__setitem__, function, containers)

    def time_out(self, call_id: str) -> None:
        """The function's `timeout` has passed: the container is killed, and the call has failed."""
        status = api.GenericResult.GENERIC_STATUS_TIMEOUT
        self._now(self._calls.end, self._calls.calls[call_id], status)

    def expire(self, call_id: str) -> None:
        """The 7 days for which results are kept have passed."""
        self._now(setattr, self._calls.calls[call_id], "is_expired", True)

    def _now(self, action: Callable[..., object], *arguments: object) -> None:
        async def act() -> None:
            action(*arguments)
            self._calls.update()

        self._do(act())

    async def _start(
        self, grpc: socket.socket, http: socket.socket, wire: Wire, content: Content
    ) -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_put("/content/{name}", content.put)
        app.router.add_get("/content/{name}", content.get)
        await self._listen(app, http)
        self._server = BusyServer([wire], status_details_codec=custom_detail_codec)
        await self._server.start(sock=grpc)

    async def _open(self, answer: Callable[[web.Request], Any]) -> str:
        """An address of its own; whose it is."""
        app, listening = web.Application(client_max_size=2**30), _listening()
        app.router.add_route("*", "/{path:.*}", answer)
        await self._listen(app, listening)
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    async def _listen(self, app: web.Application, listening: socket.socket) -> None:
        runner = web.AppRunner(app, shutdown_timeout=1)
        self._runners.append(runner)
        await runner.setup()
        await web.SockSite(runner, listening).start()

    async def _stop(self) -> None:
        await self._calls.close()
        self._server.close()
        await self._server.wait_closed()
        for runner in self._runners:
            await runner.cleanup()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _listening() -> socket.socket:
    server = socket.create_server(("127.0.0.1", 0))
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # otherwise 40 ms for an answer
    return server


@contextmanager
def _loop_in_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="modal-control-plane")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
