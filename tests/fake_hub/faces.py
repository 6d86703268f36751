"""What the two faces of a fake hub answer: the hub, and the store it redirects to."""

import json
import re
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fake_hub.layout import Snapshot, StoredFile
from tests.fake_hub.traffic import Asked, Fault

if TYPE_CHECKING:
    from tests.fake_hub.server import FakeHub

CHUNK = 1 << 16
SIGNATURE = "X-Amz-Signature=d0ntl00k"
REPO = r"(?P<repo>[^/]+/[^/]+)"
RESOLVE = re.compile(rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
CACHED = re.compile(rf"/api/resolve-cache/models/{REPO}/(?P<revision>[^/]+)/(?P<path>.+)")
INFO = re.compile(rf"/api/models/{REPO}(/revision/(?P<revision>[^/]+))?")
PATHS = re.compile(rf"/api/models/{REPO}/paths-info/(?P<revision>[^/]+)")
STORE = re.compile(rf"/store/{REPO}/(?P<revision>[^/]+)/(?P<path>.+)")


class Served(Protocol):
    """The server of a face."""

    hub: "FakeHub"


class Face(BaseHTTPRequestHandler):
    server: "Served"
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        self.hub = self.server.hub
        self.body = self.rfile.read(int(self.headers.get("content-length") or 0))
        authorization = self.headers.get("authorization")
        token = authorization.removeprefix("Bearer ") if authorization else None
        path = urlsplit(self.path).path
        self.asked = Asked(self.command, unquote(path), self.headers.get("range"), token)
        self.hub.asked.append(self.asked)
        fault = self.hub.next_fault(self.command, self.asked.path, spoils_content=False)
        if fault is not None:
            self.say(fault.status or 500, fault.headers)
        else:
            self.answer(path)

    do_HEAD = do_GET = do_POST = handle_any

    def answer(self, path: str) -> None:
        raise NotImplementedError

    def say(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """Answer with anything but a file."""
        self.asked.status = status
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_file(self, repo: str, file: StoredFile, headers: Mapping[str, str]) -> None:
        """Answer with a file, or the part of it that was asked for."""
        where = f"/{repo}/{file.path}"
        fault = None
        if self.command == "GET":
            fault = self.hub.next_fault("GET", self.asked.path, spoils_content=True)
        fault = fault or Fault(where)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range") or "")
        if fault.ignores_range:
            asked = None
        start = int(asked[1]) if asked else 0
        stop = min(int(asked[2]) + 1 if asked and asked[2] else file.size, file.size)
        if asked and start >= stop:
            return self.say(416, {"Content-Range": f"bytes */{file.size}"})
        if fault.end_after is not None:
            stop = min(stop, start + fault.end_after)
        self.asked.status = 206 if asked else 200
        self.send_response(self.asked.status)
        about = {"Content-Length": str(stop - start), "Accept-Ranges": "bytes", **headers}
        if asked:
            about["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
        for name, value in about.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self._send_content(self.hub.folder / repo / file.path, start, stop, fault)
        return None

    def _send_content(self, path: Path, start: int, stop: int, fault: Fault) -> None:
        ends = [at + start for at in (fault.cut_after, fault.hold_after) if at is not None]
        end = min(stop, *ends) if ends else stop
        with path.open("rb") as file:
            file.seek(start)
            while start < end:
                chunk = bytearray(file.read(min(CHUNK, end - start)))
                if fault.flip_at is not None and 0 <= fault.flip_at - start < len(chunk):
                    chunk[fault.flip_at - start] ^= 1
                self.wfile.write(chunk)
                start += len(chunk)
                self.asked.sent += len(chunk)
        if fault.hold_after is not None:
            self.wfile.flush()
            self.hub.closing.wait()
        if end < stop:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class StoreFace(Face):
    def answer(self, path: str) -> None:
        if self.asked.token is not None:
            return self.say(400, body=b"Only one auth mechanism allowed")
        match = STORE.fullmatch(path)
        if match is None or urlsplit(self.path).query != SIGNATURE:
            return self.say(403, body=b"AccessDenied")
        snapshot = self.hub.snapshot(match["repo"], match["revision"])
        assert snapshot is not None
        file = next(one for one in snapshot.files if one.path == unquote(match["path"]))
        return self.send_file(snapshot.repo, file, {"ETag": f'"{file.sha256[:32]}"'})


class HubFace(Face):
    def answer(self, path: str) -> None:
        for pattern, respond in (
            (RESOLVE, self._resolve),
            (CACHED, self._resolve),
            (INFO, self._info),
            (PATHS, self._paths),
        ):
            if match := pattern.fullmatch(path):
                snapshot = self._snapshot(match["repo"], unquote(match["revision"] or "main"))
                return respond(snapshot, match) if snapshot else None
        return self._refuse(404, "RepoNotFound")

    def _snapshot(self, repo: str, revision: str) -> Snapshot | None:
        """The commit that is asked for; None when it was refused."""
        token, hub = self.asked.token, self.hub
        is_known = any(one.repo == repo for one in hub.snapshots)
        if token is not None and token not in hub.tokens:
            self._refuse(401, None, "Invalid credentials in Authorization header")
        elif not is_known:
            self._refuse(404 if token else 401, "RepoNotFound")
        elif repo in hub.gated and repo not in hub.tokens.get(token or "", ()):
            self._refuse(403 if token else 401, "GatedRepo")
        elif (snapshot := hub.snapshot(repo, revision)) is None:
            self._refuse(404, "RevisionNotFound")
        else:
            return snapshot
        return None

    def _refuse(self, status: int, code: str | None, message: str = "") -> None:
        headers = {"X-Error-Code": code} if code else {"X-Error-Message": message}
        self.say(status, headers)

    def _resolve(self, snapshot: Snapshot, match: re.Match[str]) -> None:
        path = unquote(match["path"])
        file = next((one for one in snapshot.files if one.path == path), None)
        commit = {"X-Repo-Commit": snapshot.commit}
        if file is None:
            return self.say(404, {"X-Error-Code": "EntryNotFound", **commit})
        if file.is_large:
            target = f"{self.hub.store}/store/{snapshot.repo}/{snapshot.commit}/{match['path']}"
            linked = {"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.sha256}"'}
            return self.say(302, {"Location": f"{target}?{SIGNATURE}", **commit, **linked})
        if match.re is RESOLVE:
            target = f"/api/resolve-cache/models/{snapshot.repo}/{snapshot.commit}/{match['path']}"
            return self.say(307, {"Location": target})
        return self.send_file(snapshot.repo, file, {"ETag": f'"{file.sha256[:40]}"', **commit})

    def _info(self, snapshot: Snapshot, _: re.Match[str]) -> None:
        siblings = [{"rfilename": file.path} for file in snapshot.files]
        self._say_json({"id": snapshot.repo, "sha": snapshot.commit, "siblings": siblings})

    def _paths(self, snapshot: Snapshot, _: re.Match[str]) -> None:
        if "json" in (self.headers.get("content-type") or ""):
            wanted = json.loads(self.body)["paths"]
        else:
            wanted = parse_qs(self.body.decode())["paths"]
        files = [file for file in snapshot.files if file.path in wanted]
        self._say_json([_listed(file) for file in files])

    def _say_json(self, content: object) -> None:
        headers = {"Content-Type": "application/json"}
        self.say(200, headers, json.dumps(content).encode())


def _listed(file: StoredFile) -> dict[str, object]:
    row = {"type": "file", "path": file.path, "size": file.size, "oid": file.sha256[:40]}
    lfs = {"oid": file.sha256, "size": file.size, "pointerSize": 135}
    return row | ({"lfs": lfs} if file.is_large else {})
