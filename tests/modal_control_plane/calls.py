"""Calls of functions: each has one input, that waits, runs in a container, and has one result.

One container at a time works for a function, unless a test allows more. An input whose container
died runs again, for ever, as with Modal; one that failed does so as often as `retries` says. The
first result of an input counts.
"""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2 as api
from modal_proto.api_pb2 import GenericResult

from tests.modal_control_plane.containers import Container
from tests.modal_control_plane.deployments import Deployments, Function
from tests.modal_control_plane.storage import Volumes
from tests.modal_control_plane.wire import ASKING_CONTAINER

HEARTBEAT_S = 14  # the runtime gives up on a heartbeat after 15 s


@dataclass(eq=False, slots=True)
class Call:
    """`retries`: how often it was tried anew; `sent`, `received`: messages of a web request."""

    call_id: str
    function: Function
    input: Any
    kind: int
    retries: int = 0
    output: Any = None
    is_expired: bool = False
    sent: list[Any] = field(default_factory=list)
    received: list[Any] = field(default_factory=list)


class Calls:
    """`environment` is what every container gets."""

    def __init__(
        self, deployed: Deployments, volumes: Volumes, folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.calls: dict[str, Call] = {}
        self.containers: list[Container] = []
        self.held: set[str] = set()
        self.limits: dict[str, int] = {}
        self._waiting: list[Call] = []
        self._deployed, self._volumes = deployed, volumes
        self._folder, self._environment = folder, environment
        self._lives: set[asyncio.Task[None]] = set()
        self._change = asyncio.Event()
        self._numbers = itertools.count(1)

    async def until(self, claim: Callable[[], object], timeout_s: float | None = None) -> bool:
        """Whether it became true in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not claim():
                    await self._change.wait()
        except TimeoutError:
            return False
        return True

    def update(self) -> None:
        """After every answer: start what is needed, and wake who waits for something."""
        for call in self._waiting:
            working = [one.function for one in self.containers if not one.is_outdated]
            name = call.function.name
            few = working.count(call.function) < self.limits.get(name, 1)
            if few and name not in self.held:
                self.start(call.function)
        self._change.set()
        self._change = asyncio.Event()

    def start(self, function: Function, *given: Call) -> None:
        name = f"ta-{next(self._numbers)}"
        container = Container(name, function, function.data, self._folder / name, [*given])
        self.containers.append(container)
        life = asyncio.create_task(self._live(container))
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)

    async def _live(self, container: Container) -> None:
        secrets = [self._deployed.environments[one] for one in container.definition.secret_ids]
        environment = {name: one[name] for one in (self._environment, *secrets) for name in one}
        mounts = {
            one.mount_path: self._volumes.folder(one.volume_id) / one.sub_path.strip("/")
            for one in container.definition.volume_mounts
        }
        await container.start(self._layout(container), environment, mounts)
        self.update()
        assert container.process is not None
        await container.process.wait()
        self.containers.remove(container)
        left = [*container.given, *container.running]
        self._waiting[:0] = [one for one in left if not (one.output or self._having(one))]
        self.update()

    def _layout(self, container: Container) -> Any:
        """The app's functions, and what the one of the container depends on."""
        layout = api.AppLayout()
        layout.CopyFrom(self._deployed.apps[container.function.app_id].layout)
        for needed in container.definition.object_dependencies:
            described = layout.objects.add(object_id=needed.object_id)
            if needed.object_id.startswith("vo-"):
                described.volume_metadata.CopyFrom(self._volumes.metadata(needed.object_id))
        return layout

    def _having(self, call: Call) -> list[Container]:
        return [one for one in self.containers if call in (*one.given, *one.running)]

    def end(self, call: Call, status: Any) -> None:
        """A result that no container gave; those that have its input are killed."""
        self._finish(call, api.FunctionGetOutputsItem(result=GenericResult(status=status)))
        for container in self._having(call):
            container.signal(signal.SIGKILL)
        self.update()

    def _finish(self, call: Call, output: Any) -> None:
        call.output = call.output or output
        self._waiting = [one for one in self._waiting if one is not call]

    async def close(self) -> None:
        self._waiting.clear()
        self.held.update(one.name for one in self._deployed.functions.values())
        await self.until(lambda: all(one.process for one in self.containers))
        for container in self.containers:
            container.signal(signal.SIGKILL)
        await asyncio.gather(*self._lives)

    # What clients ask

    def FunctionMap(self, request: Any) -> Any:
        function, item = self._deployed.functions[request.function_id], request.pipelined_inputs[0]
        call = self.add(function, item.input, request.function_call_invocation_type)
        inputs = [api.FunctionPutInputsResponseItem(input_id=call.call_id)]
        return api.FunctionMapResponse(function_call_id=call.call_id, pipelined_inputs=inputs)

    def add(self, function: Function, input_: Any, kind: int) -> Call:
        call_id = f"fc-{next(self._numbers)}"
        self.calls[call_id] = Call(call_id, function, input_, kind)
        self._waiting.append(self.calls[call_id])
        return self.calls[call_id]

    async def FunctionGetOutputs(self, request: Any) -> Any:
        call = self.calls.get(request.function_call_id)
        if call is None:
            return api.FunctionGetOutputsResponse()
        await self.until(lambda: call.output or call.is_expired, request.timeout)
        done = [call.output] if call.output and not call.is_expired else []
        open_ = 0 if call.output or call.is_expired else 1
        return api.FunctionGetOutputsResponse(outputs=done, num_unfinished_inputs=open_)

    def FunctionCallCancel(self, request: Any) -> Any:
        call = self.calls[request.function_call_id]
        having = self._having(call)
        if request.terminate_containers or not having:
            self.end(call, GenericResult.GENERIC_STATUS_TERMINATED)
        for container in having:
            container.canceled.append(call.call_id)
        return Empty()

    def AppClientDisconnect(self, request: Any) -> Any:
        app = self._deployed.apps[request.app_id]
        app.ended = True
        for call in self.calls.values():
            if app.ephemeral and call.function.app_id == request.app_id:
                self.end(call, GenericResult.GENERIC_STATUS_TERMINATED)
        for container in self.containers:
            if app.ephemeral and container.function.app_id == request.app_id:
                container.signal(signal.SIGKILL)
        return Empty()

    async def AppGetLogs(self, request: Any) -> AsyncIterator[Any]:
        await self.until(lambda: self._deployed.apps[request.app_id].ended)
        for log in sorted(self._folder.glob("*/log")):
            said = api.TaskLogs(data=log.read_text(), file_descriptor=api.FILE_DESCRIPTOR_STDOUT)
            yield api.TaskLogsBatch(task_id=log.parent.name, entry_id="1", items=[said])
        yield api.TaskLogsBatch(app_done=True)

    # What containers ask

    async def ContainerHeartbeat(self, request: Any) -> Any:
        container = self._asking()
        if not await self.until(lambda: container.canceled, HEARTBEAT_S):
            return api.ContainerHeartbeatResponse()
        event = api.CancelInputEvent(input_ids=container.canceled)
        container.canceled.clear()
        return api.ContainerHeartbeatResponse(cancel_input_event=event)

    async def FunctionGetInputs(self, request: Any) -> Any:
        container = self._asking()
        await self.until(lambda: container.is_outdated or self._offered(container))
        if not (call := self._offered(container)):
            end = api.FunctionGetInputsItem(kill_switch=True)
            return api.FunctionGetInputsResponse(inputs=[end])
        container.given = [one for one in container.given if one is not call]
        self._waiting = [one for one in self._waiting if one is not call]
        container.running.append(call)
        item = api.FunctionGetInputsItem(
            input_id=call.call_id,
            input=call.input,
            function_call_id=call.call_id,
            function_call_invocation_type=call.kind,
            retry_count=call.retries,
        )
        return api.FunctionGetInputsResponse(inputs=[item])

    def _offered(self, container: Container) -> Call | None:
        """What it may have next: nothing once its function was deployed anew."""
        free = container.function.name not in self.held and not container.is_outdated
        mine = [one for one in self._waiting if one.function is container.function and free]
        return next(iter([*container.given, *mine]), None)

    def FunctionPutOutputs(self, request: Any) -> Any:
        container = self._asking()
        for item in request.outputs:
            call = self.calls[item.input_id]
            container.running.remove(call)
            failed = item.result.status == GenericResult.GENERIC_STATUS_FAILURE
            if failed and call.retries < container.definition.retry_policy.retries:
                call.retries += 1
                self._waiting.append(call)
            else:
                output = {"result": item.result, "data_format": item.data_format}
                self._finish(call, api.FunctionGetOutputsItem(**output))
        return Empty()

    async def FunctionCallGetDataIn(self, request: Any) -> AsyncIterator[Any]:
        call, index = self.calls[request.function_call_id], request.last_index
        while (
            await self.until(lambda n=index: len(call.sent) > n or call.output) and not call.output
        ):
            chunk, index = call.sent[index], index + 1
            yield api.DataChunk(data_format=chunk.data_format, data=chunk.data, index=index)

    def FunctionCallPutDataOut(self, request: Any) -> Any:
        self.calls[request.function_call_id].received.extend(request.data_chunks)
        return Empty()

    def FunctionGetDynamicConcurrency(self, request: Any) -> Any:
        return api.FunctionGetDynamicConcurrencyResponse(concurrency=request.max_concurrency)

    def TaskResult(self, request: Any) -> Any:
        """A container could not start. Modal tries again for a while; here the input fails."""
        for call in [one for one in self._waiting if one.function is self._asking().function]:
            self._finish(call, api.FunctionGetOutputsItem(result=request.result))
        return Empty()

    def _asking(self) -> Container:
        return next(one for one in self.containers if one.container_id == ASKING_CONTAINER.get())
