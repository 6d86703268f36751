"""The folder of a fake hub: all repositories of the catalog, with small files or hollow ones."""

import hashlib
import json
import shutil
from collections import defaultdict
from dataclasses import asdict, replace
from importlib.resources import as_file, files
from pathlib import Path

from infinitetalk.weights.catalog import CATALOG, Catalog, Part, RemoteFile, Source
from infinitetalk.weights.catalog_file import write_catalog
from infinitetalk.weights.model_config import ModelConfig, released_config
from infinitetalk.weights.synthetic import model_config
from tests.fake_hub.layout import Snapshot, StoredFile, commit_of, stored, write_table
from tests.fake_hub.originals import write_checkpoint

CATALOG_FILE = "catalog.json"


def build(folder: Path) -> Catalog:
    """Every file of the catalog in the sizes of `tiny`; the catalog of them is written, too."""
    sizes = model_config("tiny")
    catalog = _build(folder, sizes, hollow=False)
    values = {name: asdict(getattr(sizes, name)) for name in ModelConfig.__slots__}
    catalog = replace(catalog, sizes=json.loads(json.dumps(values)))
    write_catalog(folder / CATALOG_FILE, catalog)
    return catalog


def build_hollow(folder: Path) -> Catalog:
    """Every file of the catalog in its released size, 150 GB in all, but with nothing in it."""
    return _build(folder, released_config(), hollow=True)


def _build(folder: Path, sizes: ModelConfig, *, hollow: bool) -> Catalog:
    """The real catalog with other files in its places: it knows of them what it really knows."""
    commits: dict[tuple[str, str, str | None], list[StoredFile]] = defaultdict(list)
    parts = []
    for part in CATALOG.parts:
        sources = []
        for source in part.sources:
            found = _write_source(folder / source.repo, part, source, sizes, hollow=hollow)
            listed = commits[source.repo, source.branch, source.revision]
            listed += [*found, *_write_others(folder / source.repo, source, len(listed))]
            known = zip(source.files, found, strict=True)
            sources.append(replace(source, files=tuple(_as_known(*pair) for pair in known)))
        parts.append(replace(part, sources=tuple(sources)))
    snapshots = [
        Snapshot(repo, branch, revision or commit_of(repo, branch, listed), tuple(listed))
        for (repo, branch, revision), listed in commits.items()
    ]
    write_table(folder, snapshots)
    return Catalog(tuple(parts))


def _as_known(file: RemoteFile, found: StoredFile) -> RemoteFile:
    size = None if file.size is None else found.size
    return RemoteFile(file.path, size, file.sha256 and found.sha256)


def _write_source(
    root: Path, part: Part, source: Source, sizes: ModelConfig, *, hollow: bool
) -> list[StoredFile]:
    root.mkdir(parents=True, exist_ok=True)
    if part.name == "tokenizer":
        _write_tokenizer(root / source.files[0].path)
    else:
        write_checkpoint(root, part, source, sizes, hollow=hollow)
    listed = _listed_hollow if hollow else stored
    return [listed(root, file.path) for file in source.files]


def _write_others(root: Path, source: Source, listed: int) -> list[StoredFile]:
    """What repositories have besides, and nobody is to fetch."""
    others = {"README.md": f"The files of {source.repo}."} if not listed else {}
    if len(source.files) > 1:
        index = {"metadata": {}, "weight_map": {}}
        others["diffusion_pytorch_model.safetensors.index.json"] = json.dumps(index)
    for path, text in others.items():
        (root / path).write_text(text)
    return [stored(root, path) for path in others]


def _write_tokenizer(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with as_file(files("infinitetalk.demo") / "assets" / "tokenizer.json") as tokenizer:
        shutil.copyfile(tokenizer, path)


def _listed_hollow(root: Path, path: str) -> StoredFile:
    """Nobody reads a hollow file to its end, so any hash will do."""
    return StoredFile(path, (root / path).stat().st_size, hashlib.sha256(path.encode()).hexdigest())
