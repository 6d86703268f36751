"""Apps and what they are made of. Images are taken for built, uploaded files for present."""

import itertools
import time
from dataclasses import dataclass, field
from typing import Any

from modal_proto import api_pb2 as api

from tests.modal_control_plane.wire import object_id

BUILDER = "2025.06"


@dataclass(slots=True)
class App:
    """`ended` when the client of `modal run` has left."""

    ephemeral: bool
    layout: Any = field(default_factory=api.AppLayout)
    ended: bool = False


@dataclass(slots=True)
class Function:
    """A function, or all methods of a class; a new deployment brings new `data`."""

    function_id: str
    app_id: str
    metadata: Any = None
    data: Any = None

    @property
    def name(self) -> str:
        return self.metadata.function_name.removesuffix(".*")


class Deployments:
    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, str]] = {}
        self.apps: dict[str, App] = {}
        self.functions: dict[str, Function] = {}
        self.environments: dict[str, dict[str, str]] = {}  # by the id of a secret
        self._numbers = itertools.count(1)

    def EnvironmentGetOrCreate(self, request: Any) -> Any:
        settings = api.EnvironmentSettings(image_builder_version=BUILDER)
        metadata = api.EnvironmentMetadata(name="main", settings=settings)
        return api.EnvironmentGetOrCreateResponse(environment_id="en-main", metadata=metadata)

    def AppGetByDeploymentName(self, request: Any) -> Any:
        app_id = object_id("ap", request.name)
        return api.AppGetByDeploymentNameResponse(app_id=app_id if app_id in self.apps else "")

    def AppCreate(self, request: Any) -> Any:
        ephemeral = request.app_state == api.APP_STATE_EPHEMERAL
        name = f"run/{next(self._numbers)}" if ephemeral else request.description
        app_id = object_id("ap", name)
        self.apps[app_id] = App(ephemeral)
        return api.AppCreateResponse(app_id=app_id)

    def AppGetLayout(self, request: Any) -> Any:
        return api.AppGetLayoutResponse(app_layout=self.apps[request.app_id].layout)

    def AppPublish(self, request: Any) -> Any:
        ids = {"function_ids": request.function_ids, "class_ids": request.class_ids}
        layout = api.AppLayout(**ids)
        for one in request.function_ids.values():
            metadata = self.functions[one].metadata
            layout.objects.add(object_id=one, function_handle_metadata=metadata)
        for one in request.class_ids.values():
            layout.objects.add(object_id=one, class_handle_metadata=api.ClassHandleMetadata())
        self.apps[request.app_id].layout = layout
        return api.AppPublishResponse(deployed_at=time.time())

    def SecretGetOrCreate(self, request: Any) -> Any:
        content = dict(request.env_dict)
        if name := request.deployment_name:
            content = self.secrets[name]
            for key in request.required_keys:
                content[key]  # the missing one is noticed now
        secret_id = f"st-{next(self._numbers)}"
        self.environments[secret_id] = content
        return api.SecretGetOrCreateResponse(secret_id=secret_id)

    def MountGetOrCreate(self, request: Any) -> Any:
        mount_id, metadata = f"mo-{next(self._numbers)}", api.MountHandleMetadata()
        return api.MountGetOrCreateResponse(mount_id=mount_id, handle_metadata=metadata)

    def ImageGetOrCreate(self, request: Any) -> Any:
        built = api.GenericResult(status=api.GenericResult.GENERIC_STATUS_SUCCESS)
        metadata = api.ImageMetadata(image_builder_version=BUILDER)
        image_id = f"im-{next(self._numbers)}"
        return api.ImageGetOrCreateResponse(image_id=image_id, result=built, metadata=metadata)

    def FunctionPrecreate(self, request: Any) -> Any:
        function_id = object_id("fu", request.app_id, request.function_name)
        function = Function(function_id, request.app_id)
        function = self.functions.setdefault(function_id, function)
        function.metadata = _metadata(request)
        return api.FunctionPrecreateResponse(
            function_id=function_id, handle_metadata=function.metadata
        )

    def FunctionCreate(self, request: Any) -> Any:
        function = self.functions[request.existing_function_id]
        alternatives = api.FunctionData()
        alternatives.ranked_functions.add(function=request.function)
        choice = request.HasField("function_data")
        function.data = request.function_data if choice else alternatives
        return api.FunctionCreateResponse(
            function_id=function.function_id,
            function_data=function.data,
            handle_metadata=function.metadata,
        )

    def ClassCreate(self, request: Any) -> Any:
        class_id = request.existing_class_id or f"cs-{next(self._numbers)}"
        return api.ClassCreateResponse(class_id=class_id, handle_metadata=api.ClassHandleMetadata())

    def FunctionGet(self, request: Any) -> Any:
        app_id = object_id("ap", request.app_name)
        function = self.functions[object_id("fu", app_id, request.object_tag)]
        return api.FunctionGetResponse(
            function_id=function.function_id,
            handle_metadata=function.metadata,
            function=function.data,
        )

    def ClassGet(self, request: Any) -> Any:
        layout = self.apps[object_id("ap", request.app_name)].layout
        class_id = dict(layout.class_ids)[request.object_tag]
        return api.ClassGetResponse(class_id=class_id, handle_metadata=api.ClassHandleMetadata())


def _metadata(request: Any) -> Any:
    """What a client gets to know about the function of a `FunctionPrecreate`, to call it."""
    metadata = _handle(request, app_id=request.app_id, definition_id="de-1")
    if request.HasField("webhook_config"):
        metadata.web_url = f"https://{request.function_name}.modal.invalid"
    for name, method in request.method_definitions.items():
        handle = _handle(method, is_method=True, use_method_name=name)
        metadata.method_handle_metadata[name].CopyFrom(handle)
    return metadata


def _handle(described: Any, **more: Any) -> Any:
    return api.FunctionHandleMetadata(
        function_name=described.function_name,
        function_type=described.function_type,
        function_schema=described.function_schema,
        supported_input_formats=described.supported_input_formats,
        supported_output_formats=described.supported_output_formats,
        **more,
    )
