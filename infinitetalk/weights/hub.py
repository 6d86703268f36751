"""The Hugging Face hub, or a mirror of it, as an origin of weights.

Of `huggingface_hub` this takes the addresses, the session (proxies, certificates, offline mode) and
the meaning of refusals. Transfers are ours, because the library's no longer resume: since its
version 2 a download that was killed begins again at the first byte. Plain HTTP ranges do, and every
file of the catalog is below the 50 GB up to which the hub serves them. The token is the one given,
never one that lies on the machine, and goes to the hub only, not to the stores it redirects to.
"""

import glob
import io
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urljoin, urlsplit

from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import OfflineModeIsEnabled

from infinitetalk import __version__
from infinitetalk.errors import ConnectionFailed, InvalidSetting
from infinitetalk.weights.catalog import RemoteFile, Source
from infinitetalk.weights.hub_errors import HTTP_ERROR, asked_pause_s, given_up, refusal, trouble
from infinitetalk.weights.origin import Described
from infinitetalk.weights.ranged_file import RangedFile
from infinitetalk.weights.storage import sync

log = logging.getLogger(__name__)

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)  # between attempts that all end at the same byte
MAX_REDIRECTS = 10

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub at an address.

    Raises:
        InvalidSetting: the address is none.
    """

    endpoint: str
    token: str | None = field(default=None, repr=False)
    sleep: Callable[[float], None] = time.sleep
    timeout_s: float = 15.0  # without a byte

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", self.endpoint):
            raise InvalidSetting("HF_ENDPOINT is no http or https address.")

    @property
    def name(self) -> str:
        return urlsplit(self.endpoint).netloc.rpartition("@")[2]

    @property
    def makes_copies(self) -> bool:
        return True

    def describe(self, source: Source, file: RemoteFile) -> Described:
        """What the hub says of a file.

        Raises:
            SourceFileMissing: it has no such file, revision or repository.
            SourceForbidden: it wants a token, or a licence accepted.
            ConnectionFailed: it cannot be reached, or its answers make no sense.
        """
        return self._patiently(source, file, lambda url: self._ask(url))

    def open(self, source: Source, file: RemoteFile) -> io.BufferedIOBase:
        """The file in ranges. Errors of `describe`, now and while it is read."""
        if source.revision is None or file.size is None:
            found = self.describe(source, file)
            source, file = replace(source, revision=found.revision), replace(file, size=found.size)

        def read_range(start: int, stop: int) -> bytes:
            return self._patiently(source, file, lambda url: self._read(url, start, stop))

        return io.BufferedReader(RangedFile(read_range, file.size or 0))

    def missing_bytes(self, source: Source, file: RemoteFile, folder: Path) -> int:
        target, part = _places(source, file, folder)
        here = file.size if _size(target) == file.size else _size(part)
        return max(0, (file.size or 0) - (here or 0))

    def fetch(
        self, source: Source, file: RemoteFile, folder: Path, on_bytes: Callable[[int], None]
    ) -> Path:
        """The file below `folder`; what an earlier attempt got is kept. Errors of `describe`."""
        target, part = _places(source, file, folder)
        size = file.size or 0
        if _size(target) == size:
            on_bytes(size)
            return target
        with _only_part(target, part).open("ab") as out:
            if out.tell() > size:
                _start_over(out)
            on_bytes(out.tell())
            self._patiently(
                source, file, lambda url: self._append(url, out, size, on_bytes), out.tell
            )
        sync(part)
        return part.replace(target)

    def _patiently(
        self,
        source: Source,
        file: RemoteFile,
        attempt: Callable[[str], _Result],
        reached: Callable[[], int] = lambda: 0,
    ) -> _Result:
        """Try again after failures that may pass; after progress, with all patience again.

        Errors go on without their cause: its text has addresses that are signed.
        """
        revision = source.revision or source.branch
        endpoint = self.endpoint.rstrip("/")
        url = hf_hub_url(source.repo, file.path, revision=revision, endpoint=endpoint)
        pauses, before = iter(PAUSES_S), reached()
        while True:
            try:
                return attempt(url)
            except OfflineModeIsEnabled:
                raise ConnectionFailed("HF_HUB_OFFLINE is set: no hub is asked.") from None
            except (HTTP_ERROR, EOFError) as error:
                if final := refusal(error, self.name, source.repo, file.path):
                    raise final from None
                if reached() != before:
                    pauses, before = iter(PAUSES_S), reached()
                if (pause := next(pauses, None)) is None:
                    raise given_up(error, self.name) from None
                pause = max(pause, asked_pause_s(error))
                log.warning("%s, trying again in %.0f s", trouble(error, self.name), pause)
                self.sleep(pause)

    def _ask(self, url: str) -> Described:
        """A file's description; where the hub redirects to a store, from the redirect."""
        headers = self._headers
        for _ in range(MAX_REDIRECTS):
            answer = get_session().request(
                "HEAD", url, headers=headers, timeout=self.timeout_s, follow_redirects=False
            )
            hf_raise_for_status(answer)
            if not answer.has_redirect_location or "x-linked-size" in answer.headers:
                return _described(answer.headers, self.name)
            target = urljoin(url, answer.headers["location"])
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                headers = {key: value for key, value in headers.items() if key != "authorization"}
            url = target
        raise ConnectionFailed(f"{self.name} redirects without end.")

    def _read(self, url: str, start: int, stop: int) -> bytes:
        with self._get(url, start, stop) as answer:
            if answer.status_code != 206:  # reading on could mean gigabytes
                raise ConnectionFailed(f"{self.name} does not give parts of files.")
            content: bytes = answer.read()
        if len(content) != stop - start:
            raise EOFError
        return content

    def _append(self, url: str, out: BinaryIO, size: int, on_bytes: Callable[[int], None]) -> None:
        start = out.tell()
        if start == size:
            return
        with self._get(url, start) as answer:
            if start and answer.status_code != 206:  # all of it comes again
                on_bytes(-start)
                _start_over(out)
            for chunk in answer.iter_bytes():
                on_bytes(len(chunk))
                out.write(chunk)
        if out.tell() != size:
            raise EOFError

    @contextmanager
    def _get(self, url: str, start: int, stop: int | None = None) -> Iterator[Any]:
        """The answer to a request for a range, its content not read yet."""
        headers = {**self._headers, "range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        with get_session().stream(
            "GET", url, headers=headers, timeout=self.timeout_s, follow_redirects=True
        ) as answer:
            hf_raise_for_status(answer)
            yield answer

    @property
    def _headers(self) -> dict[str, str]:
        headers = {"user-agent": f"infinitetalk/{__version__}", "accept-encoding": "identity"}
        return headers | ({"authorization": f"Bearer {self.token.strip()}"} if self.token else {})


def _described(headers: Mapping[str, str], hub: str) -> Described:
    commit = headers.get("x-repo-commit", "")
    size = headers.get("x-linked-size") or headers.get("content-length") or ""
    if not (re.fullmatch(r"[0-9a-f]{40}", commit) and size.isdecimal()):
        raise ConnectionFailed(f"{hub} does not answer like a hub.")
    tag = headers.get("x-linked-etag") or headers.get("etag") or ""
    sha256 = re.fullmatch(r'"?([0-9a-f]{64})"?', tag)  # of small files it is a git hash
    return Described(commit, int(size), sha256[1] if sha256 else None)


def _places(source: Source, file: RemoteFile, folder: Path) -> tuple[Path, Path]:
    """Where a file comes to lie, and where it grows: content of another state is not continued."""
    target = folder / source.repo / file.path
    state = (file.sha256 or source.revision or "")[:16]
    return target, target.with_name(f".{target.name}.{state}.part")


def _only_part(target: Path, part: Path) -> Path:
    """Make room for the part-file; those of other states of the file go."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for other in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        if other != part:
            other.unlink()
    return part


def _start_over(out: BinaryIO) -> None:
    out.seek(0)
    out.truncate()


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
