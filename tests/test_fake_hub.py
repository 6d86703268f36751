"""The fake hub is one to the real one's library, and its files are one model however laid out."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from infinitetalk.weights.catalog import CATALOG, Catalog, Part, Source
from infinitetalk.weights.tensor_file import open_tensors
from tests.fake_hub import FakeHub, build

SHARD = "diffusion_pytorch_model-00001-of-00007.safetensors"
ASK_THE_LIBRARY = """
import json, sys
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

endpoint, folder, repo, gated, *paths = sys.argv[1:]
api = HfApi(endpoint=endpoint, token=False)

def fetch(repo, path):
    try:
        return hf_hub_download(repo, path, local_dir=folder, endpoint=endpoint, token=False)
    except HfHubHTTPError as error:
        return type(error).__name__

print(json.dumps({
    "commit": api.model_info(repo).sha,
    "listed": [[file.size, file.lfs and file.lfs.sha256]
               for file in api.get_paths_info(repo, paths)],
    "fetched": [fetch(repo, path) for path in paths],
    "refused": [fetch(gated, "x"), fetch(repo, "nothing"), fetch("nobody/nothing", "x")],
}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def catalog(folder: Path) -> Catalog:
    return build(folder)


def test_the_library_of_the_real_hub_finds_its_way(
    folder: Path, catalog: Catalog, tmp_path: Path
) -> None:
    repo, gated = "Wan-AI/Wan2.1-I2V-14B-480P", "Kijai/WanVideo_comfy"
    files = [folder / repo / path for path in (SHARD, "README.md")]
    quiet = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    with FakeHub(folder, gated=[gated]) as hub:
        arguments = [hub.endpoint, str(tmp_path / "out"), repo, gated, SHARD, "README.md"]
        answer = subprocess.run(
            [sys.executable, "-c", ASK_THE_LIBRARY, *arguments],
            env={**os.environ, **quiet},
            capture_output=True,
            check=True,
        )
    found = json.loads(answer.stdout)
    source = next(one for part in catalog.parts for one in part.sources if one.repo == repo)
    assert found["commit"] == source.revision
    assert [Path(path).read_bytes() for path in found["fetched"]] == [
        path.read_bytes() for path in files
    ]
    sha256 = hashlib.sha256(files[0].read_bytes()).hexdigest()
    assert found["listed"] == [[files[0].stat().st_size, sha256], [files[1].stat().st_size, None]]
    assert found["refused"] == [
        "GatedRepoError",
        "RemoteEntryNotFoundError",
        "RepositoryNotFoundError",
    ]


def test_it_has_every_file_of_the_catalog_and_knows_of_them_what_the_catalog_knows(
    folder: Path, catalog: Catalog
) -> None:
    for part, real in zip(catalog.parts, CATALOG.parts, strict=True):
        for source, original in zip(part.sources, real.sources, strict=True):
            assert (source.repo, source.revision) == (original.repo, original.revision)
            for file, known in zip(source.files, original.files, strict=True):
                assert (folder / source.repo / file.path).is_file()
                assert (file.size is None, file.sha256 is None) == (
                    known.size is None,
                    known.sha256 is None,
                )


@pytest.mark.parametrize("part", CATALOG.parts, ids=lambda p: f"{p.name}-{p.presets}-{p.speakers}")
def test_all_sources_of_a_part_have_the_same_values(
    part: Part, folder: Path, catalog: Catalog
) -> None:
    if part.component == "tokenizer":
        return
    first, *others = (values(folder, source) for source in part.sources)
    for other in others:
        assert other.keys() == first.keys()
        assert all(torch.equal(other[key], first[key]) for key in first)


def values(folder: Path, source: Source) -> dict[str, torch.Tensor]:
    files = [(folder / source.repo / file.path, file.path) for file in source.files]
    names = {"parametrizations.weight.original0": "weight_g"} | {
        "parametrizations.weight.original1": "weight_v"
    }
    with open_tensors(files) as tensors:
        found = {key: tensors.read(key).float() for key in tensors.entries}
    for long, short in names.items():
        found = {key.replace(long, short): value for key, value in found.items()}
    return found


def test_the_adapters_of_one_and_two_speakers_differ(folder: Path, catalog: Catalog) -> None:
    one, two = (values(folder, p.sources[0]) for p in catalog.parts if p.name == "audio")
    assert one.keys() == two.keys()
    assert any(not torch.equal(one[key], two[key]) for key in one)
