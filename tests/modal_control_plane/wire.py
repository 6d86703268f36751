"""The gRPC face of the plane: every RPC is kept, may be made to fail, and is given to its method.

A method has the name of its RPC. It returns the reply, or a coroutine of it, or is an async
generator of replies. What it raises becomes a status; an RPC without a method is UNIMPLEMENTED.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from grpclib.const import Handler
from grpclib.protocol import H2Protocol
from grpclib.server import Server, Stream
from h2.settings import SettingCodes
from modal_proto import api_pb2 as api
from modal_proto.api_grpc import ModalClientBase

ASKING_CONTAINER: ContextVar[str] = ContextVar("asking_container", default="")
CONTAINER_HEADER = "x-fake-container"
GRANTED = {
    "AppHeartbeat": Empty(),
    "ContainerHello": Empty(),
    "MountBatchedCheckExistence": api.MountBatchedCheckExistenceResponse(),  # none is missing
    "MountPutFile": api.MountPutFileResponse(exists=True),
    "VolumeCommit": api.VolumeCommitResponse(skip_reload=True),
    "VolumeReload": Empty(),
}
STATUS_OF = {
    KeyError: Status.NOT_FOUND,
    FileNotFoundError: Status.NOT_FOUND,
    FileExistsError: Status.ALREADY_EXISTS,
    IsADirectoryError: Status.INVALID_ARGUMENT,
}


def object_id(kind: str, *names: str) -> str:
    """The client wants exactly one dash in an id."""
    return f"{kind}-{'/'.join(names).replace('-', '_')}"


@dataclass(slots=True)
class Fault:
    rpc: str
    status: Status
    times: int


class Wire:
    """All RPCs of the control plane, answered by `parts`; `on_answer` follows every reply."""

    def __init__(self, parts: Sequence[object], on_answer: Callable[[], None]) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.faults: list[Fault] = []
        self._parts, self._on_answer = parts, on_answer

    def __mapping__(self) -> dict[str, Handler]:
        return ModalClientBase.__mapping__(self)  # asks for one attribute per RPC

    def __getattr__(self, rpc: str) -> Callable[[Stream[Any, Any]], Awaitable[None]]:
        return partial(self._answer, rpc)

    async def _answer(self, rpc: str, stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        ASKING_CONTAINER.set(str((stream.metadata or {}).get(CONTAINER_HEADER, "")))
        self.requests.append((rpc, request))
        self._fail_if_told(rpc)
        try:
            reply = self._method(rpc)(request)
            if hasattr(reply, "__aiter__"):
                async for message in reply:
                    await stream.send_message(message)
            else:
                await stream.send_message(await reply if inspect.isawaitable(reply) else reply)
            self._on_answer()
        except tuple(STATUS_OF) as error:
            raise GRPCError(STATUS_OF[type(error)], str(error)) from error

    def _method(self, rpc: str) -> Callable[[Any], Any]:
        if rpc in GRANTED:
            return lambda _: GRANTED[rpc]
        for part in self._parts:
            if hasattr(part, rpc):
                return getattr(part, rpc)
        raise GRPCError(Status.UNIMPLEMENTED, f"{rpc} is not part of this control plane")

    def _fail_if_told(self, rpc: str) -> None:
        for fault in self.faults:
            if fault.rpc == rpc and fault.times:
                fault.times -= 1
                raise GRPCError(fault.status, "as the test wants it")


class BusyServer(Server):
    """A server that lets a client ask for more than 100 things at once on one connection: every
    request to a web endpoint is such a thing for as long as it lasts.
    """

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        made = protocol.connection_made

        def connection_made(transport: asyncio.BaseTransport) -> None:
            made(transport)
            settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 10_000}
            protocol.connection._connection.update_settings(settings)
            protocol.connection.flush()

        protocol.connection_made = connection_made
        return protocol
