"""The page at /ui: static files, the same for everybody and without a key.

All that the page knows it asks of the other routes. The browser may load nothing from elsewhere.
"""

from importlib.resources import files
from os import PathLike, stat_result

from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # a new version is a new page at once; unchanged files cost a 304
}


def page_routes() -> list[Mount]:
    """The page, and the example that it offers."""
    package = files("infinitetalk")
    return [
        Mount("/ui/example", _Files(directory=str(package / "demo" / "assets"))),
        Mount("/ui", _Files(directory=str(package / "serving" / "ui"), html=True)),
    ]


class _Files(StaticFiles):
    """Files with the headers of the page."""

    def file_response(
        self,
        full_path: str | PathLike[str],
        stat_result: stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        return response
