"""Places that original weights come from, and the simplest of them: a folder of files.

An origin finds the files of a catalog, opens them for a look at their headers, and makes them
local. The other origin is `hub.Hub`. Which files are wanted and whether they are the right ones is
not decided here: see `catalog.py` and `download.py`.
"""

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from infinitetalk.errors import SourceFileMissing, WeightsCorrupt
from infinitetalk.weights.catalog import CATALOG, RemoteFile, Source


@dataclass(frozen=True, slots=True)
class Described:
    """What an origin says of a file."""

    revision: str | None  # 40-hex commit; None where there are no revisions
    size: int  # bytes
    sha256: str | None  # None where only reading the file would tell


class Origin(Protocol):
    """A place that has original weights."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def makes_copies(self) -> bool:
        """Whether what `fetch` returns is a copy of ours; otherwise it is the user's own file."""

    def describe(self, source: Source, file: RemoteFile) -> Described:
        """What is there under the name of a file.

        Raises:
            SourceFileMissing: nothing.
        """

    def open(self, source: Source, file: RemoteFile) -> io.BufferedIOBase:
        """A file to seek and read in; only what is asked for is transferred, in large blocks."""

    def missing_bytes(self, source: Source, file: RemoteFile, folder: Path) -> int:
        """How many bytes `fetch` would add to `folder`, of a file as `pin` returns it."""

    def fetch(
        self, source: Source, file: RemoteFile, folder: Path, on_bytes: Callable[[int], None]
    ) -> Path:
        """Where a file, as `pin` returns it, lies complete; its content is not checked.

        Args:
            folder: where files that are not local come to lie, as `<owner>/<name>/<path>`.
            on_bytes: told how many more bytes are here, those of an earlier attempt included,
                before they are written; by raising it ends the transfer, to be continued another
                time. Negative when bytes have to be fetched again.
        """


def _shared_names() -> frozenset[str]:
    """Names that several files of a repository have: without its folder it could be any of them."""
    sources = [source for part in CATALOG.parts for source in part.sources]
    paths = {(source.repo, PurePosixPath(file.path)) for source in sources for file in source.files}
    names = Counter((repo, path.name) for repo, path in paths)
    return frozenset(name for (_, name), count in names.items() if count > 1)


_SHARED_NAMES = _shared_names()


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder with the files of repositories, however they were brought there."""

    folder: Path

    @property
    def name(self) -> str:
        return f"the folder {self.folder.absolute().name}"

    @property
    def makes_copies(self) -> bool:
        return False

    def describe(self, source: Source, file: RemoteFile) -> Described:
        return Described(None, self._find(source, file).stat().st_size, None)

    def open(self, source: Source, file: RemoteFile) -> io.BufferedIOBase:
        return self._find(source, file).open("rb")

    def missing_bytes(self, source: Source, file: RemoteFile, folder: Path) -> int:
        return 0

    def fetch(
        self, source: Source, file: RemoteFile, folder: Path, on_bytes: Callable[[int], None]
    ) -> Path:
        path = self._find(source, file)
        on_bytes(path.stat().st_size)
        return path

    def _find(self, source: Source, file: RemoteFile) -> Path:
        repo, path = PurePosixPath(source.repo), PurePosixPath(file.path)
        places = [repo / path, repo.name / path, path]
        if path.name not in _SHARED_NAMES:
            places.append(PurePosixPath(path.name))
        for place in places:
            if (found := self.folder / place).is_file():
                return found
        raise SourceFileMissing(f"{file.path} of {source.repo} is not in {self.name}.")


def pin(origin: Origin, source: Source) -> Source:
    """The source as it is at its origin: every size known, one revision, hashes where told.

    Raises:
        SourceFileMissing: a file is not there.
        WeightsCorrupt: a size or hash is not the one that the catalog knows.
    """
    files = []
    for file in source.files:
        found = origin.describe(source, file)
        for value, known in ((found.size, file.size), (found.sha256, file.sha256)):
            if None not in (value, known) and value != known:
                raise WeightsCorrupt(
                    f"{file.path} of {source.repo} is another file at {origin.name} than in the "
                    f"catalog: {value} there, {known} here. {advice(origin)}"
                )
        # All further files are asked for at the commit of the first one.
        source = replace(source, revision=found.revision)
        files.append(RemoteFile(file.path, found.size, found.sha256 or file.sha256))
    return replace(source, files=tuple(files))


def advice(origin: Origin) -> str:
    """What to do about a file that is not the one of the catalog."""
    if origin.makes_copies:
        return (
            "The catalog is pinned: to take the new file, give its values with --catalog FILE; "
            "otherwise please report this."
        )
    return "Copy it there again, or give its values with --catalog FILE. Nothing was changed."
