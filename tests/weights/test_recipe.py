"""When two recipes make the same thing."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from infinitetalk.errors import SourceFileMissing
from infinitetalk.weights.model_config import write_model_config
from infinitetalk.weights.prepared import seal
from infinitetalk.weights.recipe import LoraFile, Recipe, SourceFile
from infinitetalk.weights.synthetic import model_config

COMMIT = "6b73f84e66371cdfe870c72acd6826e1d61cf279"


@pytest.fixture
def file(tmp_path: Path) -> SourceFile:
    (tmp_path / "it.safetensors").write_bytes(b"weights")
    return SourceFile(tmp_path / "it.safetensors", "a/it.safetensors", "us/it", COMMIT, "ab", "MIT")


@pytest.fixture
def recipe(file: SourceFile) -> Recipe:
    sources = {"base": [file], "vae": [replace(file, path="vae.pth")]}
    return Recipe("standard", "fp8", 1, sources, [LoraFile(file, 0.5)], model_config("tiny"))


def with_file(recipe: Recipe, **changes: object) -> Recipe:
    (file,) = recipe.sources["base"]
    return replace(recipe, sources={**recipe.sources, "base": [replace(file, **changes)]})  # type: ignore[arg-type]


CHANGES: dict[str, Callable[[Recipe], Recipe]] = {
    "preset": lambda r: replace(r, preset="best"),
    "precision": lambda r: replace(r, precision="bf16"),
    "speakers": lambda r: replace(r, speakers=2),
    "scale": lambda r: replace(r, loras=[replace(r.loras[0], scale=0.25)]),
    "hardly another scale": lambda r: replace(r, loras=[replace(r.loras[0], scale=0.5 + 1e-12)]),
    "one lora twice": lambda r: replace(r, loras=[*r.loras, *r.loras]),
    "no lora": lambda r: replace(r, loras=[]),
    "revision": lambda r: with_file(r, revision=COMMIT[::-1]),
    "hash": lambda r: with_file(r, sha256="cd"),
    "repository": lambda r: with_file(r, repo="them/it"),
    "path": lambda r: with_file(r, path="other.safetensors"),
    "a file less": lambda r: replace(r, sources={"base": r.sources["base"]}),
    "sizes": lambda r: replace(r, sizes=model_config("demo")),
}


def make(recipe: Recipe, folder: Path) -> Path:
    folder.mkdir()
    write_model_config(folder, recipe.sizes)
    seal(folder, recipe.manifest({}))
    return folder


def test_a_folder_says_which_recipe_made_it(recipe: Recipe, tmp_path: Path) -> None:
    assert recipe.is_of(make(recipe, tmp_path / "made"))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_differs_makes_another_folder(
    change: Callable[[Recipe], Recipe], recipe: Recipe, tmp_path: Path
) -> None:
    folder = make(recipe, tmp_path / "made")
    assert not change(recipe).is_of(folder)
    assert change(recipe).text != recipe.text


def test_where_the_file_lies_on_this_machine_does_not_matter(
    recipe: Recipe, tmp_path: Path
) -> None:
    (tmp_path / "moved").write_bytes(b"weights")
    moved = with_file(recipe, local=tmp_path / "moved")
    assert moved.text == recipe.text
    assert str(tmp_path) not in recipe.text


@pytest.mark.parametrize("known", [{"revision": COMMIT}, {"sha256": "ab"}, {}])
def test_the_time_of_a_file_counts_only_where_nothing_better_tells_it_from_others(
    known: dict[str, str], recipe: Recipe
) -> None:
    (file,) = recipe.sources["base"]
    before = with_file(recipe, **{"revision": None, "sha256": None, **known})
    text = before.text
    os.utime(file.local, (1, 1))
    assert (before.text == text) == bool(known)


def test_the_size_of_a_file_counts(recipe: Recipe) -> None:
    before = recipe.text
    recipe.sources["base"][0].local.write_bytes(b"more weights")
    assert recipe.text != before


@pytest.mark.parametrize("name", ["", "empty", "nowhere"])
def test_a_folder_without_a_model_is_of_no_recipe(
    name: str, recipe: Recipe, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert not recipe.is_of(tmp_path / name)


@pytest.mark.parametrize(
    ("speakers", "loras", "sentence"),
    [
        (1, 0, "standard in fp8 for one speaker; layout 1"),
        (2, 1, "standard in fp8 for 2 speakers, with it.safetensors x 0.5; layout 1"),
        (
            1,
            2,
            "standard in fp8 for one speaker, with it.safetensors x 0.5 and it.safetensors x 0.5",
        ),
    ],
)
def test_the_sentence_of_a_recipe(speakers: int, loras: int, sentence: str, recipe: Recipe) -> None:
    made = replace(recipe, speakers=speakers, loras=[recipe.loras[0]] * loras)
    assert made.sentence.startswith(sentence)


def test_a_missing_file_and_a_missing_part_are_named(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(SourceFileMissing, match=r"a/it\.safetensors is not there"):
        with_file(recipe, local=tmp_path / "gone").manifest({})
    with pytest.raises(SourceFileMissing, match="audio of standard"):
        recipe.files("audio")
