"""Dicts, Volumes, and their content over HTTP.

A Volume is a folder, which a container sees as the mount itself: that a real mount shows the state
of its last reload, and the others see that of its last commit, is not covered. Nothing expires.
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from aiohttp import web
from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2 as api

from tests.modal_control_plane.wire import object_id

BLOCK_BYTES = 8 * 2**20


class Dicts:
    """Pickled keys and values, in memory."""

    def __init__(self) -> None:
        self._dicts: dict[str, dict[bytes, bytes]] = {}

    def DictGetOrCreate(self, request: Any) -> Any:
        dict_id = object_id("di", request.deployment_name)
        if request.object_creation_type:
            self._dicts.setdefault(dict_id, {})
        self._dicts[dict_id]  # the missing one is noticed now
        metadata = api.DictMetadata(name=request.deployment_name)
        return api.DictGetOrCreateResponse(dict_id=dict_id, metadata=metadata)

    def DictGet(self, request: Any) -> Any:
        value = self._dicts[request.dict_id].get(request.key)
        return api.DictGetResponse(found=value is not None, value=value)

    def DictContains(self, request: Any) -> Any:
        return api.DictContainsResponse(found=request.key in self._dicts[request.dict_id])

    def DictLen(self, request: Any) -> Any:
        return api.DictLenResponse(len=len(self._dicts[request.dict_id]))

    def DictUpdate(self, request: Any) -> Any:
        known = self._dicts[request.dict_id]
        updates = {entry.key: entry.value for entry in request.updates}
        if request.if_not_exists:
            updates = {key: value for key, value in updates.items() if key not in known}
        known.update(updates)
        return api.DictUpdateResponse(created=bool(updates))

    def DictPop(self, request: Any) -> Any:
        value = self._dicts[request.dict_id].pop(request.key, None)
        return api.DictPopResponse(found=value is not None, value=value)

    async def DictContents(self, request: Any) -> AsyncIterator[Any]:
        for key, value in list(self._dicts[request.dict_id].items()):
            entry = {"key": key} if request.keys else {}
            yield api.DictEntry(**entry, value=value if request.values else b"")


class Content:
    """Files of one folder, served at `origin`: blocks by their SHA-256, and large arguments."""

    def __init__(self, folder: Path, origin: str) -> None:
        self.folder, self._origin = folder, origin
        folder.mkdir()

    def url(self, name: str) -> str:
        return f"{self._origin}/content/{name}"

    def BlobCreate(self, request: Any) -> Any:
        name = f"bl-{uuid.uuid4().hex}"
        urls = api.UploadUrlList(items=[self.url(name)])
        return api.BlobCreateResponse(blob_ids=[name], upload_urls=urls)

    def BlobGet(self, request: Any) -> Any:
        return api.BlobGetResponse(download_url=self.url(request.blob_id))

    async def put(self, request: web.Request) -> web.Response:
        body, name = await request.read(), request.match_info["name"]
        if not name.startswith("bl-") and hashlib.sha256(body).hexdigest() != name:
            return web.Response(status=400, text="not the announced content")
        (self.folder / name).write_bytes(body)
        return web.Response(headers={"ETag": hashlib.md5(body).hexdigest()})

    async def get(self, request: web.Request) -> web.Response:
        with (self.folder / request.match_info["name"]).open("rb") as file:
            file.seek(int(request.query.get("start", 0)))
            return web.Response(body=file.read(int(request.query.get("length", -1))))


class Volumes:
    """Uploads come in blocks of 8 MiB; a file replaces another at once."""

    def __init__(self, folder: Path, content: Content) -> None:
        self._folder, self._content = folder, content
        self._metadata: dict[str, Any] = {}

    def folder(self, volume: str) -> Path:
        """Where the files of a Volume are, by its name or id."""
        return self._folder / object_id("vo", volume.removeprefix("vo-"))

    def metadata(self, volume_id: str) -> Any:
        return self._metadata[volume_id]

    def VolumeGetOrCreate(self, request: Any) -> Any:
        volume_id = object_id("vo", request.deployment_name)
        if request.object_creation_type and volume_id not in self._metadata:
            self.folder(volume_id).mkdir(parents=True)
            version = request.version or api.VOLUME_FS_VERSION_V1
            metadata = api.VolumeMetadata(name=request.deployment_name, version=version)
            self._metadata[volume_id] = metadata
        metadata = self._metadata[volume_id]
        return api.VolumeGetOrCreateResponse(volume_id=volume_id, metadata=metadata)

    def VolumePutFiles2(self, request: Any) -> Any:
        reply = api.VolumePutFiles2Response()
        for index, file in enumerate(request.files):
            target = self._path(request, file.path)
            if target.is_dir() or (target.exists() and request.disallow_overwrite_existing_files):
                raise FileExistsError(file.path)
            for number, block in enumerate(file.blocks):
                name = block.contents_sha256.hex()
                if not (self._content.folder / name).exists():
                    url = self._content.url(name)
                    reply.missing_blocks.add(file_index=index, block_index=number, put_url=url)
        for file in () if reply.missing_blocks else request.files:
            self._assemble(file, self._path(request, file.path))
        return reply

    def _assemble(self, file: Any, target: Path) -> None:
        part = self._folder / uuid.uuid4().hex
        with part.open("wb") as out:
            for number, block in enumerate(file.blocks):
                out.seek(number * BLOCK_BYTES)  # zeros at the end of a block are not sent
                out.write((self._content.folder / block.contents_sha256.hex()).read_bytes())
            out.truncate(file.size)
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)

    def VolumeGetFile2(self, request: Any) -> Any:
        """Addresses of what the file is now: one that replaces it later does not show there."""
        snapshot = uuid.uuid4().hex
        os.link(self._path(request, request.path), self._content.folder / snapshot)
        size = (self._content.folder / snapshot).stat().st_size
        end = min(size, request.start + (request.len or size))
        first = (request.start // BLOCK_BYTES + 1) * BLOCK_BYTES
        borders = [request.start, *range(first, end, BLOCK_BYTES), end]
        url = self._content.url(snapshot)
        urls = [f"{url}?start={a}&length={b - a}" for a, b in pairwise(borders) if a < b]
        return api.VolumeGetFile2Response(
            get_urls=urls, size=size, start=request.start, len=max(0, end - request.start)
        )

    async def VolumeListFiles2(self, request: Any) -> AsyncIterator[Any]:
        top = self._path(request, request.path)
        top.stat()
        found = [top] if top.is_file() else top.rglob("*") if request.recursive else top.glob("*")
        root = self.folder(request.volume_id)
        yield api.VolumeListFiles2Response(entries=[_entry(root, path) for path in sorted(found)])

    def VolumeRemoveFile2(self, request: Any) -> Any:
        path = self._path(request, request.path)
        (shutil.rmtree if path.is_dir() and request.recursive else os.unlink)(path)
        return Empty()

    def VolumeCopyFiles2(self, request: Any) -> Any:
        for source in request.src_paths:
            shutil.copy(self._path(request, source), self._path(request, request.dst_path))
        return Empty()

    async def VolumeListFiles(self, request: Any) -> AsyncIterator[Any]:
        """Of a Volume of version 1, as are the next two."""
        async for found in self.VolumeListFiles2(request):
            yield api.VolumeListFilesResponse(entries=found.entries)

    def VolumeGetFile(self, request: Any) -> Any:
        data = self._path(request, request.path).read_bytes()
        return api.VolumeGetFileResponse(data=data, size=len(data))

    VolumeRemoveFile = VolumeRemoveFile2

    def _path(self, request: Any, path: str) -> Path:
        return self.folder(request.volume_id) / path.strip("/")


def _entry(root: Path, path: Path) -> Any:
    about, kind = path.stat(), api.FileEntry.DIRECTORY if path.is_dir() else api.FileEntry.FILE
    size = 0 if path.is_dir() else about.st_size
    name = path.relative_to(root).as_posix()
    return api.FileEntry(path=name, type=kind, mtime=int(about.st_mtime), size=size)
