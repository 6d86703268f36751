"""The addresses of ASGI functions: a request is a call whose messages go to and fro.

Proxy authentication is asked for here, as Modal does it, before any container sees the request.
"""

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from modal._serialization import deserialize_data_format, serialize
from modal_proto import api_pb2 as api

from tests.modal_control_plane.calls import Call, Calls
from tests.modal_control_plane.deployments import Deployments

SYNC = api.FUNCTION_CALL_INVOCATION_TYPE_SYNC


class Web:
    """`token`: the headers of a valid proxy token."""

    def __init__(self, deployed: Deployments, calls: Calls, token: Mapping[str, str]) -> None:
        self._deployed, self._calls, self._token = deployed, calls, token

    async def answer(self, name: str, request: web.Request) -> web.StreamResponse:
        """For the function of that name which was deployed last."""
        *_, function = (one for one in self._deployed.functions.values() if one.name == name)
        asks = function.data.ranked_functions[0].function.webhook_config.requires_proxy_auth
        if asks and any(request.headers.get(name) != one for name, one in self._token.items()):
            return web.Response(status=401, text="modal-http: missing or invalid proxy token")
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": "/" + request.match_info["path"],
            "query_string": request.rel_url.raw_query_string.encode(),
            "headers": [(name.lower(), value) for name, value in request.raw_headers],
            "client": (request.remote, 1),
            "extensions": {"http.response.trailers": {}},
        }
        input_ = api.FunctionInput(
            args=serialize(((scope,), {})), data_format=api.DATA_FORMAT_PICKLE
        )
        call = self._calls.add(function, input_, SYNC)
        asgi = api.Asgi(http_request=api.Asgi.HttpRequest(body=await request.read()))
        call.sent.append(_chunk(asgi))
        self._calls.update()
        try:
            return await self._relay(call, request)
        finally:
            call.sent.append(_chunk(api.Asgi(http_disconnect=api.Asgi.HttpDisconnect())))
            self._calls.update()

    async def _relay(self, call: Call, request: web.Request) -> web.StreamResponse:
        response, count = web.StreamResponse(status=500), 0
        while await self._calls.until(lambda n=count: len(call.received) > n or call.output):
            if len(call.received) == count:
                break
            message = deserialize_data_format(call.received[count].data, api.DATA_FORMAT_ASGI, None)
            count += 1
            if message["type"] == "http.response.start":
                response.set_status(message["status"])
                for name, value in message["headers"]:
                    response.headers.add(name.decode(), value.decode())
                await response.prepare(request)
            else:
                if request.method != "HEAD":
                    await response.write(message["body"])
                if not message.get("more_body"):
                    break
        if not response.prepared:
            await response.prepare(request)
        return response


def _chunk(message: Any) -> Any:
    return api.DataChunk(data_format=api.DATA_FORMAT_ASGI, data=message.SerializeToString())
