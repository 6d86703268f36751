"""Original files in, a prepared folder out: what it holds, and what survives a kill."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from infinitetalk.errors import (
    InvalidField,
    SourceFileMissing,
    StorageFull,
    WeightsBusy,
    WeightsCorrupt,
)
from infinitetalk.weights.convert import COMPONENTS, SCALE, fit, to_original
from infinitetalk.weights.convert import build as build_network
from infinitetalk.weights.load import load_model
from infinitetalk.weights.lora import PREFIX
from infinitetalk.weights.packing import DTYPES, TRANSFORMER, open_packer
from infinitetalk.weights.prepare import LOCK, prepare
from infinitetalk.weights.prepared import (
    BF16,
    FP8,
    MANIFEST,
    VERIFIED,
    read_manifest,
    verify,
    weights_file,
)
from infinitetalk.weights.quantize import dequantize, is_quantized
from infinitetalk.weights.recipe import Recipe
from infinitetalk.weights.storage import exclusively
from infinitetalk.weights.tensor_file import open_tensors
from tests.fake_hub import build as build_hub
from tests.weights.small_recipes import (
    middle_sizes,
    small_recipe,
    with_files,
    with_loras,
)

ROOT = Path(__file__).parents[2]
Q = "blocks.0.self_attn.q.weight"
NORM = "blocks.1.norm3.weight"
Weights = Mapping[str, Tensor]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    build_hub(folder)
    return folder


@pytest.fixture(scope="module")
def finished(hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`standard` in fp8, undisturbed; copy it to change it."""
    folder = tmp_path_factory.mktemp("weights") / "standard-fp8-1"
    prepare(small_recipe(hub), folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where to prepare to."""
    return tmp_path / "standard-fp8-1"


@pytest.fixture
def copied(finished: Path, folder: Path) -> Path:
    """A prepared folder of one's own."""
    shutil.copytree(finished, folder)
    return folder


def originals(recipe: Recipe, part: str) -> Weights:
    with open_tensors((file.local, file.path) for file in recipe.files(part)) as tensors:
        return {key: tensors.read(key) for key in tensors.entries}


def transformer_originals(recipe: Recipe) -> Weights:
    return {**originals(recipe, "base"), **originals(recipe, "audio")}


def contents(folder: Path) -> dict[str, bytes]:
    """All but the notes of what was verified when."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != VERIFIED}


def states(folder: Path) -> dict[str, tuple[int, int]]:
    found = {path.name: path.stat() for path in folder.glob("*.safetensors")}
    return {name: (state.st_ino, state.st_mtime_ns) for name, state in found.items()}


def product(lora: Weights, key: str) -> Tensor:
    """What a LoRA of the fake hub adds to a weight, computed plainly."""
    module, _, kind = (PREFIX + key).rpartition(".")
    added = torch.zeros(())
    for up, down in (("up", "down"), ("B", "A")):
        if kind == "weight" and f"{module}.lora_{up}.weight" in lora:
            halves = (lora[f"{module}.lora_{half}.weight"].float() for half in (up, down))
            added = added + torch.mm(*halves)
    name = f"{module}.{'diff' if kind == 'weight' else 'diff_b'}"
    return added + lora[name].float() if name in lora else added


# -- what a prepared folder holds ------------------------------------------------------------------


@pytest.mark.parametrize("speakers", [1, 2])
@pytest.mark.parametrize("precision", [BF16, FP8])
def test_every_variant_is_prepared_and_loads(
    precision: str, speakers: int, hub: Path, folder: Path
) -> None:
    recipe = small_recipe(hub, "fast", precision, speakers)
    assert prepare(recipe, folder).is_new
    manifest = read_manifest(folder)
    assert (manifest.preset, manifest.precision, manifest.speakers) == ("fast", precision, speakers)
    verify(folder, manifest, deep=True)
    model = load_model(folder, torch.device("cpu"), torch.float32)
    adapter = originals(recipe, "audio")["audio_proj.proj1.weight"]
    found = model.transformer.state_dict()["audio_proj.proj1.weight"]
    assert torch.equal(found, adapter.bfloat16().float())


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_file_holds_what_the_network_needs_under_original_names_and_no_more(
    name: str, finished: Path, hub: Path
) -> None:
    weights = load_file(finished / weights_file(name))
    config = getattr(small_recipe(hub).sizes, name)
    found = fit(name, config, {key: tuple(tensor.shape) for key, tensor in weights.items()})
    assert found.is_exact
    assert not found.unused


@pytest.mark.parametrize("name", COMPONENTS)
def test_tensors_are_stored_in_the_dtype_of_their_network(name: str, finished: Path) -> None:
    for key, tensor in load_file(finished / weights_file(name)).items():
        if key.endswith(SCALE):
            assert tensor.dtype == torch.float32
        elif name == TRANSFORMER and is_quantized(key):
            assert tensor.dtype == torch.float8_e4m3fn
        else:
            assert tensor.dtype == DTYPES[name]


@pytest.mark.parametrize("name", [name for name in COMPONENTS if name != TRANSFORMER])
def test_values_are_the_originals(name: str, finished: Path, hub: Path) -> None:
    canonical = COMPONENTS[name].canonical
    source = {canonical(k): t for k, t in originals(small_recipe(hub), name).items()}
    for key, tensor in load_file(finished / weights_file(name)).items():
        assert torch.equal(tensor, source[key].to(tensor.dtype))


def test_without_a_lora_the_transformer_is_the_original(hub: Path, folder: Path) -> None:
    recipe = small_recipe(hub, "best", BF16)
    prepare(recipe, folder)
    source = transformer_originals(recipe)
    weights = load_file(folder / weights_file(TRANSFORMER))
    assert weights.keys() == source.keys()
    assert all(torch.equal(tensor, source[key].bfloat16()) for key, tensor in weights.items())


def test_it_does_not_matter_which_source_is_taken(hub: Path, tmp_path: Path) -> None:
    for source in (0, 1):
        prepare(small_recipe(hub, source=source), tmp_path / str(source))
    first, second = (read_manifest(tmp_path / name) for name in "01")
    assert first.files == second.files
    assert first.sources != second.sources


def test_a_lora_is_added_in_float32_and_rounded_once(hub: Path, folder: Path) -> None:
    recipe = small_recipe(hub, "standard", BF16)
    report = prepare(recipe, folder)
    source = transformer_originals(recipe)
    lora = originals(with_files(recipe, "lora", recipe.loras[0].file.local), "lora")
    changed = 0
    for key, tensor in load_file(folder / weights_file(TRANSFORMER)).items():
        exact = (source[key].float() + product(lora, key)).bfloat16()
        assert torch.equal(tensor, exact), key
        changed += not torch.equal(exact, source[key].bfloat16())
    assert changed > 20
    (found,) = report.loras.values()
    assert {*found.used, *found.ignored} == lora.keys()


def test_several_loras_are_added_each_with_its_scale(hub: Path, folder: Path) -> None:
    standard, fast = (small_recipe(hub, preset, BF16) for preset in ("standard", "fast"))
    paths = [recipe.loras[0].file.local for recipe in (standard, fast)]
    recipe = with_loras(standard, (paths[0], 0.5), (paths[1], -2.0))
    report = prepare(recipe, folder)
    assert [*report.loras] == [f"{paths[0].name} x 0.5", f"{paths[1].name} x -2"]
    loras = [originals(with_files(recipe, "x", path), "x") for path in paths]
    weights = load_file(folder / weights_file(TRANSFORMER))
    for key, original in transformer_originals(recipe).items():
        exact = original.float() + 0.5 * product(loras[0], key) - 2.0 * product(loras[1], key)
        assert torch.equal(weights[key], exact.bfloat16()), key


def test_weights_in_8_bits_are_the_merged_ones_up_to_rounding(hub: Path, tmp_path: Path) -> None:
    recipe = small_recipe(hub)
    prepare(recipe, tmp_path / "it")
    source = transformer_originals(recipe)
    lora = originals(with_files(recipe, "x", recipe.loras[0].file.local), "x")
    weights = load_file(tmp_path / "it" / weights_file(TRANSFORMER))
    quantized = [key for key in source if is_quantized(key)]
    assert {key + SCALE for key in quantized} == {key for key in weights if key.endswith(SCALE)}
    for key in quantized:
        exact = source[key].float() + product(lora, key)
        error = (dequantize(weights[key], weights[key + SCALE]) - exact).abs()
        assert (error <= 2**-4 * exact.abs().amax(1, keepdim=True)).all()
        assert (error <= 2**-4 * exact.abs() + 2**-9 * weights[key + SCALE][:, None]).all()


def test_a_scale_is_the_same_without_its_weight_having_been_made(hub: Path, finished: Path) -> None:
    """A process may be killed between the two."""
    with open_packer(small_recipe(hub), TRANSFORMER) as packer:
        scale = packer.make(Q + SCALE)
    assert torch.equal(scale, load_file(finished / weights_file(TRANSFORMER))[Q + SCALE])


def test_where_base_and_adapter_hold_a_key_the_adapter_counts_and_it_is_reported(
    hub: Path, tmp_path: Path
) -> None:
    recipe = small_recipe(hub, "best", BF16)
    adapter = {**originals(recipe, "audio"), NORM: torch.full((64,), 7.0)}
    save_file(adapter, tmp_path / "adapter.safetensors")
    recipe = with_files(recipe, "audio", tmp_path / "adapter.safetensors")
    report = prepare(recipe, tmp_path / "it")
    assert report.replaced == [NORM]
    assert (load_file(tmp_path / "it" / weights_file(TRANSFORMER))[NORM] == 7).all()


def test_what_nobody_needs_is_reported(hub: Path, folder: Path) -> None:
    report = prepare(small_recipe(hub), folder)
    assert "textual.token_embedding.weight" in report.unused["image_encoder"]
    assert "masked_spec_embed" in report.unused["audio_encoder"]
    assert not report.unused[TRANSFORMER]


def test_the_manifest_says_where_everything_came_from(finished: Path, hub: Path) -> None:
    manifest = read_manifest(finished)
    recipe = small_recipe(hub)
    paths = {file.path for files in recipe.sources.values() for file in files}
    assert {source["path"] for source in manifest.sources} == {
        *paths,
        *(lora.file.path for lora in recipe.loras),
    }
    assert "standard in fp8 for one speaker, with Wan2.1_I2V_14B_FusionX_LoRA" in manifest.recipe
    assert not any(str(hub) in str(value) for value in manifest.sources)


def test_progress_reaches_the_size_of_every_file(hub: Path, folder: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    prepare(small_recipe(hub), folder, on_progress=lambda *call: calls.append(call))
    files = read_manifest(folder).files
    last = {component: (done, total) for component, done, total in calls}
    assert list(last) == list(COMPONENTS)
    assert all(
        done == total == files[weights_file(name)].size for name, (done, total) in last.items()
    )
    assert calls == sorted(calls, key=lambda call: (list(COMPONENTS).index(call[0]), call[1]))


# -- what is refused -------------------------------------------------------------------------------


def lacks_a_tensor(weights: dict[str, Tensor]) -> None:
    del weights[Q]


def has_another_tensor(weights: dict[str, Tensor]) -> None:
    weights["blocks.9.surprise"] = torch.zeros(1)


def has_another_shape(weights: dict[str, Tensor]) -> None:
    weights[Q] = weights[Q][:-1].contiguous()


def holds_whole_numbers(weights: dict[str, Tensor]) -> None:
    weights[Q] = weights[Q].to(torch.int8)


def has_a_scale(weights: dict[str, Tensor]) -> None:
    weights[Q + SCALE] = torch.ones(len(weights[Q]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lacks_a_tensor, rf"1 missing \({Q}\)"),
        (has_another_tensor, r"1 not known \(blocks\.9\.surprise\)"),
        (has_another_shape, rf"1 of another shape \({Q} is \[63, 64\]\)"),
        (holds_whole_numbers, f"quantised already: {Q}"),
        (has_a_scale, f"quantised already: {Q}"),
    ],
)
def test_originals_that_do_not_fit_are_refused_before_a_byte_is_written(
    spoil: Callable[[dict[str, Tensor]], None], message: str, hub: Path, tmp_path: Path
) -> None:
    recipe = small_recipe(hub)
    weights = dict(originals(recipe, "base"))
    spoil(weights)
    save_file(weights, tmp_path / "base.safetensors")
    with pytest.raises(WeightsCorrupt, match=message):
        prepare(with_files(recipe, "base", tmp_path / "base.safetensors"), tmp_path / "it")
    assert {path.name for path in tmp_path.iterdir()} == {"base.safetensors", LOCK}


def test_weights_of_the_voice_under_two_names_are_refused(hub: Path, tmp_path: Path) -> None:
    recipe = small_recipe(hub)
    weights = dict(originals(recipe, "audio_encoder"))
    twice = next(key for key in weights if "original0" in key)
    weights[twice.replace("parametrizations.weight.original0", "weight_g")] = weights[twice].clone()
    save_file(weights, tmp_path / "voice.safetensors")
    recipe = with_files(recipe, "audio_encoder", tmp_path / "voice.safetensors")
    with pytest.raises(WeightsCorrupt, match="weight_g twice, under two names"):
        prepare(recipe, tmp_path / "it")


def test_a_shard_too_few_is_refused_by_its_keys(hub: Path, tmp_path: Path) -> None:
    recipe = small_recipe(hub, source=1)
    recipe = replace(recipe, sources={**recipe.sources, "base": recipe.sources["base"][1:]})
    with pytest.raises(WeightsCorrupt, match=r"\d+ missing \(.*patch_embedding\.weight"):
        prepare(recipe, tmp_path / "it")


def test_a_lora_for_another_model_is_refused_with_the_first_reason(
    hub: Path, tmp_path: Path
) -> None:
    lora = tmp_path / "other.safetensors"
    save_file({f"{PREFIX}{Q.removesuffix('.weight')}.diff": torch.zeros(3, 4)}, lora)
    reason = re.escape(f"{Q.removesuffix('.weight')}.diff: shape [3, 4] does not fit [64, 64]")
    with pytest.raises(WeightsCorrupt, match=f"other.safetensors fits this model: .*{reason}"):
        prepare(with_loras(small_recipe(hub), (lora, 1.0)), tmp_path / "it")


def test_a_text_to_video_lora_is_used_as_far_as_it_fits(hub: Path, tmp_path: Path) -> None:
    recipe = small_recipe(hub)
    lora = dict(originals(with_files(recipe, "x", recipe.loras[0].file.local), "x"))
    patch = f"{PREFIX}patch_embedding.diff"
    lora[patch] = lora[patch][:, :16].contiguous()
    save_file(lora, tmp_path / "t2v.safetensors")
    report = prepare(with_loras(recipe, (tmp_path / "t2v.safetensors", 1.0)), tmp_path / "it")
    (found,) = report.loras.values()
    shapes = "[64, 16, 1, 2, 2] does not fit [64, 36, 1, 2, 2]"
    assert found.warnings == [f"{patch}: shape {shapes}"]
    assert "1 x does not fit" in found.summary


@pytest.mark.parametrize("part", ["base", "audio", "vae", "tokenizer"])
def test_a_part_without_files_is_named(part: str, hub: Path, folder: Path) -> None:
    with pytest.raises(SourceFileMissing, match=part):
        prepare(with_files(small_recipe(hub), part), folder)


@pytest.mark.parametrize("part", ["base", "vae", "tokenizer"])
def test_a_file_that_is_gone_is_named(part: str, hub: Path, tmp_path: Path) -> None:
    recipe = with_files(small_recipe(hub), part, tmp_path / f"{part}.safetensors")
    with pytest.raises(SourceFileMissing, match=rf"{part}\.safetensors"):
        prepare(recipe, tmp_path / "it")


@pytest.mark.parametrize("content", ["", "{}", "no tokenizer"])
def test_a_broken_tokenizer_is_named(content: str, hub: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text(content)
    with pytest.raises(WeightsCorrupt, match=r"tokenizer broken\.json is unreadable"):
        prepare(
            with_files(small_recipe(hub), "tokenizer", tmp_path / "broken.json"), tmp_path / "it"
        )


def test_a_tokenizer_with_more_words_than_the_text_encoder_is_refused(
    hub: Path, tmp_path: Path
) -> None:
    recipe = small_recipe(hub)
    (source,) = recipe.files("tokenizer")
    larger = json.loads(source.local.read_text())
    vocabulary = larger["model"]["vocab"]
    more = [[f"new{i}", 0.0] for i in range(5)]
    larger["model"]["vocab"] = (
        vocabulary + more
        if isinstance(vocabulary, list)
        else vocabulary | {word: len(vocabulary) + i for i, (word, _) in enumerate(more)}
    )
    (tmp_path / "larger.json").write_text(json.dumps(larger))
    with pytest.raises(WeightsCorrupt, match="more words than the text encoder"):
        prepare(with_files(recipe, "tokenizer", tmp_path / "larger.json"), tmp_path / "it")


def test_a_folder_of_somebody_elses_is_left_alone(hub: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / "diary.txt").write_text("dear diary")
    with pytest.raises(InvalidField, match="holds something else"):
        prepare(small_recipe(hub), folder)
    assert [path.name for path in folder.iterdir()] == ["diary.txt"]


def test_an_empty_folder_is_taken(hub: Path, folder: Path) -> None:
    folder.mkdir()
    prepare(small_recipe(hub), folder)
    verify(folder, read_manifest(folder), deep=True)


def test_two_processes_do_not_prepare_beside_each_other(hub: Path, folder: Path) -> None:
    with exclusively(folder.parent / LOCK), pytest.raises(WeightsBusy):
        prepare(small_recipe(hub), folder)
    prepare(small_recipe(hub), folder)


def test_too_little_room_is_told_with_figures_before_a_byte_is_written(
    hub: Path, folder: Path
) -> None:
    with pytest.raises(StorageFull, match=r"standard in fp8 takes 0\.0 GB more; .* 0\.0 GB free"):
        prepare(small_recipe(hub), folder, free=lambda _: 800_000)
    assert not list(folder.parent.glob("*/*.safetensors*"))


# -- what is there already -------------------------------------------------------------------------


def test_the_same_recipe_again_does_nothing(hub: Path, copied: Path) -> None:
    before = states(copied)
    report = prepare(small_recipe(hub), copied, free=lambda _: 0)
    assert not report.is_new
    assert states(copied) == before


@pytest.mark.parametrize("name", [weights_file("vae"), "tokenizer.json", MANIFEST])
def test_what_is_damaged_is_refused_and_mended_by_the_same_command(
    name: str, hub: Path, copied: Path, finished: Path
) -> None:
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 0x80
    (copied / name).write_bytes(data)
    with pytest.raises(WeightsCorrupt):
        verify(copied, read_manifest(copied))
    assert prepare(small_recipe(hub), copied).is_new
    assert contents(copied) == contents(finished)


def test_another_recipe_replaces_the_folder_when_it_is_complete(hub: Path, copied: Path) -> None:
    def look(component: str, done: int, total: int) -> None:
        verify(copied, old)

    old = read_manifest(copied)
    prepare(small_recipe(hub, "best"), copied, on_progress=look)
    assert read_manifest(copied).preset == "best"
    assert {path.name for path in copied.parent.iterdir()} == {copied.name, LOCK}


@pytest.mark.parametrize(
    "change",
    [
        lambda recipe: replace(recipe, precision=BF16),
        lambda recipe: replace(recipe, speakers=2),
        lambda recipe: replace(recipe, loras=[replace(recipe.loras[0], scale=0.9)]),
        lambda recipe: replace(recipe, loras=[]),
    ],
    ids=["precision", "speakers", "scale", "no lora"],
)
def test_what_another_recipe_began_is_not_continued(
    change: Callable[[Recipe], Recipe], hub: Path, tmp_path: Path
) -> None:
    part = tmp_path / ".it.part"
    with pytest.raises(KeyboardInterrupt):
        prepare(small_recipe(hub), tmp_path / "it", on_progress=stop_at_second_network)
    assert (part / weights_file(TRANSFORMER)).exists()
    begun: list[tuple[str, int]] = []
    report = prepare(
        change(small_recipe(hub)),
        tmp_path / "it",
        on_progress=lambda name, done, _: begun.append((name, done)),
    )
    assert not report.kept
    assert begun[0][0] == TRANSFORMER


def stop_at_second_network(component: str, done: int, total: int) -> None:
    if component != TRANSFORMER:
        raise KeyboardInterrupt


def test_a_folder_that_was_moved_away_by_a_killed_process_comes_back(
    hub: Path, copied: Path
) -> None:
    before = states(copied)
    copied.rename(copied.with_name(f".{copied.name}.old"))
    assert not prepare(small_recipe(hub), copied).is_new
    assert states(copied) == before


def test_what_a_process_left_that_was_killed_at_its_very_end_is_taken_as_it_is(
    hub: Path, folder: Path
) -> None:
    def stop() -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(small_recipe(hub), folder, clock=stop)
    before = states(folder.with_name(f".{folder.name}.part"))
    again = prepare(small_recipe(hub), folder, free=lambda _: 0)  # takes no more room
    assert again.kept == list(COMPONENTS)
    assert states(folder) == before


def test_what_was_hashed_while_it_was_written_is_not_hashed_at_the_first_start(
    hub: Path, folder: Path
) -> None:
    """A byte that flips without a trace in the file's time shows that nothing was read."""
    prepare(small_recipe(hub), folder, clock=lambda: time.time() + 100)
    path = folder / weights_file(TRANSFORMER)
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    verify(folder, read_manifest(folder))
    with pytest.raises(WeightsCorrupt, match="altered"):
        verify(folder, read_manifest(folder), deep=True)


# -- what survives a kill, and what it takes -------------------------------------------------------

MOMENTS = (2, 100, 175, 372)  # tensors written, of which the transformer has 127 or so


@dataclass(frozen=True)
class Outcome:
    """What other processes did."""

    killed: Path  # folders `at-<n>` that they were killed at, and `often`, killed again and again
    peak_mb: float  # memory that preparing files of middle size took beyond that of small ones


@pytest.fixture(scope="module")
def outcome(hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    killed, middle = tmp_path_factory.mktemp("killed"), tmp_path_factory.mktemp("middle")
    write_middle(middle)
    attempts = [f"{killed}/at-{n}/it={n}" for n in MOMENTS] + [f"{killed}/often/it=90"] * 3
    command = [sys.executable, "-m", "tests.weights.small_recipes"]
    command += [str(hub), str(middle), *attempts]
    run = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    *codes, peak_mb = run.stdout.split()
    assert codes == ["-9"] * len(attempts)
    return Outcome(killed, float(peak_mb))


def write_middle(folder: Path) -> None:
    """A transformer of 240 MB in tensors of up to 25 MB, and a LoRA."""
    network = build_network(TRANSFORMER, middle_sizes().transformer, "meta")
    shapes = to_original(TRANSFORMER, middle_sizes().transformer, network.state_dict())
    weights = {key: torch.zeros(tensor.shape) for key, tensor in shapes.items()}
    is_adapter = {key: "audio" in key or "norm_x" in key for key in weights}
    torch.save({k: t for k, t in weights.items() if not is_adapter[k]}, folder / "base.pth")
    adapter = {key: tensor for key, tensor in weights.items() if is_adapter[key]}
    save_file(adapter, folder / "audio.safetensors")
    save_file(pairs(shapes), folder / "lora.safetensors")


def pairs(shapes: Weights) -> dict[str, Tensor]:
    lora = {}
    for key, tensor in shapes.items():
        if is_quantized(key):
            stem = PREFIX + key.removesuffix(".weight")
            lora[f"{stem}.lora_up.weight"] = torch.zeros(tensor.shape[0], 32)
            lora[f"{stem}.lora_down.weight"] = torch.zeros(32, tensor.shape[1])
    return lora


def synced_bytes(part: Path) -> dict[str, int]:
    """Of the file that is being written, by its network."""
    journals = {path.name.partition(".")[0]: path for path in part.glob("*.journal")}
    sizes = {name: json.loads(path.read_text())["size"] for name, path in journals.items()}
    return {name: n for name, n in sizes.items() if not (part / weights_file(name)).exists()}


@pytest.mark.parametrize("moment", [*(f"at-{n}" for n in MOMENTS), "often"])
def test_a_preparation_that_was_killed_continues_and_ends_the_same(
    moment: str, outcome: Outcome, hub: Path, finished: Path
) -> None:
    folder = outcome.killed / moment / "it"
    assert not folder.exists()
    part = folder.with_name(".it.part")
    before, synced = states(part), synced_bytes(part)
    begun: dict[str, int] = {}
    report = prepare(
        small_recipe(hub), folder, on_progress=lambda name, done, _: begun.setdefault(name, done)
    )
    assert contents(folder) == contents(finished)
    assert {weights_file(name) for name in report.kept} == before.keys()
    assert {name: state for name, state in states(folder).items() if name in before} == before
    assert not begun.keys() & {*report.kept}
    assert {name: begun[name] for name in synced} == synced
    assert {path.name for path in folder.parent.iterdir()} == {"it", LOCK}


def test_memory_stays_that_of_a_few_tensors(outcome: Outcome) -> None:
    assert outcome.peak_mb < 100
