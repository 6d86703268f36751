"""From a request to a job folder: everything is checked here, before any GPU second is spent.

    body -> fields -> request -> addresses -> spec -> files fetched -> media checked -> job folder

What costs least comes first. The job is not known to anybody yet: whoever calls this puts it into
the queue, or removes the folder.
"""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from anyio import CancelScope, to_thread
from starlette.requests import Request

from infinitetalk.config import Settings
from infinitetalk.consent import check_consent
from infinitetalk.errors import AudioTooShort, ImageInvalid, StorageFull
from infinitetalk.jobfolder import MEDIA_FIELDS, JobFolder
from infinitetalk.serving.body import Fields, read_body
from infinitetalk.serving.fetch import Fetcher
from infinitetalk.serving.multipart import BodyLimits
from infinitetalk.serving.request import (
    GenerateRequest,
    check_sources,
    fingerprint,
    fresh_seed,
    parse_request,
    to_spec,
)
from infinitetalk.spec import GenerationSpec

_URLS = ("callback_url", "output_url", *(f"{name}_url" for name in MEDIA_FIELDS))
_GIGABYTE = 1e9


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that can be rendered, and the folder with all that rendering needs."""

    spec: GenerationSpec
    fingerprint: str  # equal for equal requests
    seconds: float  # of speech that the video will show
    voices: int
    callback_url: str | None
    output_url: str | None
    consent: str | None
    folder: JobFolder


class Checker(Protocol):
    """Opens the media of strangers where they can do no harm; `sandbox.Sandbox` does it here."""

    def start(self) -> None: ...

    def close(self) -> None: ...

    async def normalise(
        self, folder: JobFolder, spec: GenerationSpec, scene: Path, voices: Sequence[Path]
    ) -> float:
        """Make a job folder out of untrusted files; seconds of speech that the video will show."""


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder."""
    return shutil.disk_usage(folder).free


class Intake:
    """Takes requests in.

    Args:
        preset: the one that this deployment runs.
        seeds: draws the seed of a request that names none.
        free: bytes left on the disk of a folder.
    """

    def __init__(
        self,
        settings: Settings,
        preset: str,
        fetcher: Fetcher,
        checker: Checker,
        *,
        seeds: Callable[[], int] = fresh_seed,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._settings = settings
        self._preset = preset
        self._fetcher = fetcher
        self._checker = checker
        self._seeds = seeds
        self._free = free
        self._limits = BodyLimits.from_settings(settings)
        self._min_free_bytes = settings.min_free_gigabytes * _GIGABYTE

    async def take(self, request: Request, folder: Path) -> Accepted:
        """Read a request into `folder`, which is empty and stays the caller's to remove.

        Raises:
            InvalidInput: a field, a file or a URL is not what can be rendered.
            StorageFull: the disk has no room.
            SourceTimeout: the other side of a URL was too slow.
            NotReady: media cannot be checked at the moment.
            ClientDisconnect: the client went away while it sent the body.
        """
        self._check_room(folder)
        async with _uploads(folder) as uploads:
            fields = await read_body(request, uploads, self._limits)
            return await self._accept(fields, uploads, JobFolder(folder / "job"))

    async def take_fields(
        self, values: Mapping[str, object], files: Mapping[str, Path], folder: Path
    ) -> Accepted:
        """As `take`, with fields that were read already; `files` stay where they are."""
        self._check_room(folder)
        async with _uploads(folder) as uploads:
            fields = await to_thread.run_sync(_copied, values, files, uploads)
            return await self._accept(fields, uploads, JobFolder(folder / "job"))

    async def _accept(self, fields: Fields, uploads: Path, folder: JobFolder) -> Accepted:
        request = parse_request(fields.values)
        check_sources(request, fields.files)
        check_consent(request.consent, self._settings)
        _refuse_empty(fields.files)
        spec = to_spec(request, self._preset, self._seeds)
        await self._check_urls(request)
        scene, *voices = await self._files(request, fields, uploads)
        return Accepted(
            spec=spec,
            fingerprint=fingerprint(request, fields.digests),
            seconds=await self._checker.normalise(folder, spec, scene, voices),
            voices=len(voices),
            callback_url=request.callback_url,
            output_url=request.output_url,
            consent=request.consent or None,
            folder=folder,
        )

    def _check_room(self, folder: Path) -> None:
        if self._free(folder) < self._min_free_bytes:
            raise StorageFull("The disk is too full to take another job.")

    async def _check_urls(self, request: GenerateRequest) -> None:
        for field in _URLS:
            if (url := getattr(request, field)) is not None:
                await self._fetcher.check(url, field=field)

    async def _files(self, request: GenerateRequest, fields: Fields, uploads: Path) -> list[Path]:
        """The scene and the voices, sent or fetched."""
        urls = {name: request.source_url(name) for name in MEDIA_FIELDS}
        fetched = {name: url for name, url in urls.items() if url is not None}
        await self._fetch(fetched, uploads)
        return [uploads / name for name in MEDIA_FIELDS if name in fetched or name in fields.files]

    async def _fetch(self, urls: Mapping[str, str], uploads: Path) -> None:
        """All at once; the first that fails ends the others."""
        most = self._limits.file_bytes
        try:
            async with asyncio.TaskGroup() as group:
                for name, url in urls.items():
                    field = f"{name}_url"
                    download = self._fetcher.download
                    group.create_task(download(url, uploads / name, max_bytes=most, field=field))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None


def _copied(values: Mapping[str, object], files: Mapping[str, Path], uploads: Path) -> Fields:
    """Fields as if the files had been sent."""
    copies = {name: shutil.copyfile(path, uploads / name) for name, path in files.items()}
    digests: dict[str, str] = {}
    for name, path in copies.items():
        with path.open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return Fields(values, copies, digests)


def _refuse_empty(files: Mapping[str, Path]) -> None:
    """A file of no bytes has no type either: it is said to be empty, not to be of a wrong kind."""
    for name, path in files.items():
        if path.stat().st_size == 0:
            kind = ImageInvalid if name == "image" else AudioTooShort
            raise kind(f"{name} is empty.", field=name)


@asynccontextmanager
async def _uploads(folder: Path) -> AsyncIterator[Path]:
    """A folder for files as they come; when the block is left, they are gone."""
    uploads = folder / "upload"
    uploads.mkdir()
    try:
        yield uploads
    finally:
        with CancelScope(shield=True):  # unlinking half a gigabyte takes a while
            await to_thread.run_sync(shutil.rmtree, uploads, True)
