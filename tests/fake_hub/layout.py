"""What a fake hub has: repositories, their commits, and the files of each, in one table.

<folder>/hub.json                   the table
<folder>/<owner>/<name>/<path>      the files
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

TABLE = "hub.json"
LARGE = (".safetensors", ".pth", ".bin", "tokenizer.json")  # kept in a store, as on the real hub


@dataclass(frozen=True)
class StoredFile:
    """One file of a commit."""

    path: str
    size: int
    sha256: str

    @property
    def is_large(self) -> bool:
        return self.path.endswith(LARGE)


@dataclass(frozen=True)
class Snapshot:
    """One commit of a repository."""

    repo: str
    branch: str
    commit: str
    files: tuple[StoredFile, ...]


def stored(root: Path, path: str) -> StoredFile:
    """A file below `root` as it is listed."""
    with (root / path).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return StoredFile(path, (root / path).stat().st_size, sha256)


def commit_of(repo: str, branch: str, files: Iterable[StoredFile]) -> str:
    """A commit id that changes with what it holds."""
    return hashlib.sha1(repr((repo, branch, *files)).encode()).hexdigest()


def write_table(folder: Path, snapshots: Iterable[Snapshot]) -> None:
    (folder / TABLE).write_text(json.dumps([asdict(one) for one in snapshots], indent=1))


def read_table(folder: Path) -> list[Snapshot]:
    rows = json.loads((folder / TABLE).read_text())
    return [
        Snapshot(**{**row, "files": tuple(StoredFile(**file) for file in row["files"])})
        for row in rows
    ]
