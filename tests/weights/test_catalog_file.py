"""A catalog in a file: what is written can be read, and what nobody should act on is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infinitetalk.errors import InvalidSetting
from infinitetalk.weights.catalog import CATALOG, Catalog, Part, RemoteFile, Source
from infinitetalk.weights.catalog_file import FORMAT, TARGETS, read_catalog, write_catalog

REVISION = "0123456789abcdef" * 2 + "01234567"
FILE = {"path": "a/b.safetensors", "size": 12, "sha256": "f" * 64}
SOURCE = {
    "name": "mirror",
    "repo": "owner/name",
    "files": [FILE],
    "dtype": "bfloat16",
    "licence": "MIT",
    "revision": REVISION,
}
PART = {"name": "base", "component": "transformer", "sources": [SOURCE]}
VALUES = {"format": FORMAT, "parts": [PART]}
FILES = "parts[0].sources[0].files"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock.json"


def write(path: Path, values: Any) -> Path:
    path.write_text(json.dumps(values))
    return path


def with_part(**changes: Any) -> dict[str, Any]:
    return {**VALUES, "parts": [{**PART, **changes}]}


def with_source(**changes: Any) -> dict[str, Any]:
    return with_part(sources=[{**SOURCE, **changes}])


def with_file(**changes: Any) -> dict[str, Any]:
    return with_source(files=[{**FILE, **changes}])


def without(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


def test_the_built_in_catalog_survives_the_way_there_and_back(path: Path) -> None:
    write_catalog(path, CATALOG)
    assert read_catalog(path) == CATALOG


def test_the_sizes_of_a_small_model_survive_too(path: Path) -> None:
    catalog = Catalog(CATALOG.parts, {"vae": {"dim": 8, "dim_mult": [1, 2]}})
    write_catalog(path, catalog)
    assert read_catalog(path) == catalog


def test_what_may_be_left_out_takes_its_default(path: Path) -> None:
    source = {**without(SOURCE, "revision"), "files": [{"path": "a.pth"}]}
    found = read_catalog(write(path, with_part(sources=[source])))
    expected = Source("mirror", "owner/name", (RemoteFile("a.pth"),), "bfloat16", "MIT")
    assert found == Catalog((Part("base", "transformer", (expected,)),))


def test_the_built_in_catalog_has_something_for_every_target() -> None:
    assert {part.component for part in CATALOG.parts} == {*TARGETS}


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ([], "it must be an object"),
        (without(VALUES, "format"), "it has format None, and this version reads 1"),
        ({**VALUES, "format": 2}, "it has format 2, and this version reads 1"),
        ({**VALUES, "format": True}, "it has format True"),
        (without(VALUES, "parts"), "it has no key 'parts'"),
        ({**VALUES, "part": []}, "it has unknown key 'part'"),
        ({**VALUES, "parts": []}, "parts must be a list, not empty"),
        ({**VALUES, "parts": {}}, "parts must be a list, not empty"),
        ({**VALUES, "parts": ["base"]}, "parts[0] must be an object"),
        ({**VALUES, "sizes": []}, "sizes must be an object"),
        (with_part(presets=["quick"]), "parts[0].presets[0] must be one of fast, standard"),
        (with_part(presets="fast"), "parts[0].presets must be a list"),
        (with_part(speakers=3), "parts[0].speakers must be 1 or 2"),
        (with_part(speakers=True), "parts[0].speakers must be 1 or 2"),
        (with_part(scale="1"), "parts[0].scale must be a number"),
        (with_part(scale=float("nan")), "parts[0].scale must be a number"),
        (with_part(scale=True), "parts[0].scale must be a number"),
        (with_part(component="lungs"), "parts[0].component must be one of transformer"),
        (with_part(kind="base"), "parts[0] has unknown key 'kind'"),
        (with_part(sources=[]), "parts[0].sources must be a list, not empty"),
        (with_part(sources=[SOURCE, SOURCE]), "parts[0].sources must differ in their names"),
        (with_part(sources=[without(SOURCE, "repo")]), "parts[0].sources[0] has no key 'repo'"),
        (with_source(licence=""), "parts[0].sources[0].licence must be a text"),
        (with_source(dtype="int8"), "parts[0].sources[0].dtype must be one of float32"),
        (with_source(url="x"), "parts[0].sources[0] has unknown key 'url'"),
        (with_file(oid="x"), f"{FILES}[0] has unknown key 'oid'"),
    ],
)
def test_a_file_of_another_shape_is_refused(path: Path, values: Any, fault: str) -> None:
    assert refusal(path, values).startswith(fault)


@pytest.mark.parametrize(
    "revision", ["main", REVISION[:-1], REVISION.upper(), f"{REVISION}\n", 7, "refs/pr/1"]
)
def test_a_revision_is_a_whole_commit(path: Path, revision: Any) -> None:
    fault = "parts[0].sources[0].revision must be a commit of 40 hexadecimal digits in lower case"
    assert fault in refusal(path, with_source(revision=revision))


@pytest.mark.parametrize("sha256", ["f" * 63, "F" * 64, "g" * 64, REVISION, 0])
def test_a_hash_is_a_whole_sha256(path: Path, sha256: Any) -> None:
    fault = f"{FILES}[0].sha256 must be 64 hexadecimal digits in lower case"
    assert fault in refusal(path, with_file(sha256=sha256))


@pytest.mark.parametrize("size", [-1, 1.5, "12", True])
def test_a_size_is_a_number_of_bytes(path: Path, size: Any) -> None:
    assert f"{FILES}[0].size must be a whole number" in refusal(path, with_file(size=size))


@pytest.mark.parametrize(
    ("values", "key"),
    [
        *(
            (with_file(path=path), f"{FILES}[0].path")
            for path in ("../b", "/b", "a/../b", "a/", "")
        ),
        *((with_file(path=path), f"{FILES}[0].path") for path in ("a\\b", "C:/b", "a/.b", "a\n")),
        *((with_source(repo=repo), ".repo") for repo in ("name", "a/b/c", "../name", "a/..", "/a")),
        *((with_source(branch=branch), ".branch") for branch in ("../a", "/a", "a//b", None)),
    ],
)
def test_a_name_that_leads_out_of_the_folder_is_refused(path: Path, values: Any, key: str) -> None:
    assert f"{key} must be" in refusal(path, values)


def test_a_branch_may_be_a_pull_request(path: Path) -> None:
    found = read_catalog(write(path, with_source(branch="refs/pr/1")))
    assert found.parts[0].sources[0].branch == "refs/pr/1"


@pytest.mark.parametrize("content", [b"", b"parts: []", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(InvalidSetting, match=r"The catalog lock\.json is not JSON\."):
        read_catalog(path)


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir], ids=["missing", "folder"])
def test_what_cannot_be_opened_is_refused(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    with pytest.raises(InvalidSetting, match=r"The catalog lock\.json cannot be read\."):
        read_catalog(path)


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"The catalog lock\.json cannot be written\."):
        write_catalog(tmp_path / "missing" / "lock.json", CATALOG)


def refusal(path: Path, values: Any) -> str:
    with pytest.raises(InvalidSetting) as refused:
        read_catalog(write(path, values))
    name, _, fault = refused.value.message.partition(" is of no use: ")
    assert name == "The catalog lock.json"
    return fault
