"""The built-in catalog: complete for every preset, and consistent with the keys of the files."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from infinitetalk.errors import InvalidField
from infinitetalk.spec import PRESETS
from infinitetalk.weights.catalog import CATALOG, Part, Source, with_sources

MANIFESTS = Path(__file__).parents[1] / "data" / "manifests"
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
ONCE = ("base", "audio", "text_encoder", "image_encoder", "vae", "audio_encoder", "tokenizer")
LORAS = {"fast": 1, "standard": 1, "best": 0}

# What the released files hold, of which the encoders need only a part.
CONTENT = {
    "base": ("dit_base",),
    "audio": ("dit_infinitetalk",),
    "text_encoder": ("t5",),
    "image_encoder": ("clip_visual", "clip_rest"),
    "vae": ("vae",),
    "audio_encoder": ("wav2vec2",),
}
PRETRAINING_HEADS = 672_896  # parameters of quantizer, project_hid and project_q, not in `wav2vec2`

SOURCES = [(part, source) for part in CATALOG.parts for source in part.sources]
MEASURED = [
    pytest.param(part, source, id=f"{part.name}-{source.name}")
    for part, source in SOURCES
    if part.name in CONTENT and all(file.size is not None for file in source.files)
]

Shapes = Mapping[str, list[int]]


def shapes(manifest: str) -> Shapes:
    keys = json.loads((MANIFESTS / f"{manifest}.json").read_text())["keys"]
    return {key: shape for key, (shape, _) in keys.items()}


def lora_shapes(rank: int) -> Iterator[tuple[str, list[int]]]:
    """A pair for every matrix, a difference for every norm weight and every bias; no alpha."""
    for key, shape in shapes("wan21_i2v_14b_base").items():
        module, _, parameter = f"diffusion_model.{key}".rpartition(".")
        if parameter == "bias":
            yield f"{module}.diff_b", shape
        elif parameter == "weight" and len(shape) == 1:
            yield f"{module}.diff", shape
        elif parameter == "weight" and len(shape) == 2:
            yield f"{module}.lora_down.weight", [rank, shape[1]]
            yield f"{module}.lora_up.weight", [shape[0], rank]


def safetensors_size(shapes: Shapes, dtype: str) -> int:
    """Bytes of a file with these tensors and no metadata, as its library writes it."""
    header, end = {}, 0
    for key, shape in sorted(shapes.items()):
        start, end = end, end + {"F32": 4, "BF16": 2}[dtype] * count(shape)
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + length + -length % 8 + end


def count(shape: list[int]) -> int:
    product = 1
    for side in shape:
        product *= side
    return product


@pytest.mark.parametrize("speakers", [1, 2])
@pytest.mark.parametrize("preset", LORAS)
def test_a_preset_needs_one_part_of_each_kind(preset: str, speakers: int) -> None:
    needed = CATALOG.needed(preset, speakers)
    kinds = Counter(part.name for part in needed)
    assert kinds == Counter({**dict.fromkeys(ONCE, 1), "lora": LORAS[preset]})
    assert [part.speakers for part in needed if part.name == "audio"] == [speakers]


def test_every_preset_that_is_not_bundled_is_looked_at() -> None:
    assert LORAS.keys() == {name for name, preset in PRESETS.items() if not preset.is_bundled}


@pytest.mark.parametrize("preset", [name for name in PRESETS if PRESETS[name].is_bundled])
def test_a_bundled_preset_needs_nothing(preset: str) -> None:
    assert CATALOG.needed(preset, 1) == CATALOG.needed(preset, 2) == ()


def test_no_file_is_in_two_parts() -> None:
    uses = Counter((source.repo, file.path) for _, source in SOURCES for file in source.files)
    assert set(uses.values()) == {1}


def test_a_scale_is_what_a_lora_has_and_nothing_else() -> None:
    assert all((part.scale is not None) == (part.name == "lora") for part in CATALOG.parts)


def test_a_repository_is_pinned_once_on_each_branch() -> None:
    pins: dict[tuple[str, str], set[str | None]] = {}
    for _, source in SOURCES:
        pins.setdefault((source.repo, source.branch), set()).add(source.revision)
    assert all(len(revisions) == 1 for revisions in pins.values())


@pytest.mark.parametrize(("part", "source"), MEASURED)
def test_a_known_size_has_room_for_the_tensors_and_little_else(part: Part, source: Source) -> None:
    summary = json.loads((MANIFESTS / "summary.json").read_text())
    parameters = sum(summary[name]["parameters"] for name in CONTENT[part.name])
    parameters += PRETRAINING_HEADS if part.name == "audio_encoder" else 0
    overhead = sum(file.size or 0 for file in source.files) - parameters * BYTES[source.dtype]
    assert 1_000 < overhead < 500_000


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wan2.1_i2v_480p_14B_bf16", lambda: (shapes("wan21_i2v_14b_base"), "BF16")),
        ("single/infinitetalk", lambda: (shapes("infinitetalk_audio"), "F32")),
        ("lightx2v_I2V_14B_480p", lambda: (dict(lora_shapes(rank=64)), "BF16")),
    ],
    ids=["base", "audio", "lora"],
)
def test_a_single_file_has_the_very_size_that_its_keys_come_to(
    name: str, expected: Callable[[], tuple[Shapes, str]]
) -> None:
    files = [file for _, source in SOURCES for file in source.files if name in file.path]
    assert {file.size for file in files} == {safetensors_size(*expected())}


def test_a_chosen_source_is_the_only_one_left() -> None:
    chosen = with_sources(CATALOG, {"base": "official", "audio_encoder": "pickle"})
    left = {part.name: [source.name for source in part.sources] for part in chosen.parts}
    assert left["base"] == ["official"]
    assert left["audio_encoder"] == ["pickle"]


def test_a_choice_leaves_all_other_parts_as_they_are() -> None:
    chosen = with_sources(CATALOG, {"base": "official"})
    assert [part for part in chosen.parts if part.name != "base"] == [
        part for part in CATALOG.parts if part.name != "base"
    ]


def test_of_parts_with_one_name_those_without_the_source_keep_theirs() -> None:
    chosen = with_sources(CATALOG, {"lora": "comfy"})
    loras = {part.presets: part.sources for part in chosen.parts if part.name == "lora"}
    assert [source.repo for source in loras["fast",]] == ["Comfy-Org/Wan-Animate-2"]
    assert [source.name for source in loras["standard",]] == ["official"]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"base": "mirror"}, "base has no source 'mirror'; there are comfy, official."),
        ({"lora": "mirror"}, "lora has no source 'mirror'; there are kijai, comfy, official."),
        ({"basis": "comfy"}, "There is no part 'basis' of a model; there are base, audio, lora, "),
    ],
)
def test_a_choice_that_does_not_exist_names_those_that_do(
    choice: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidField) as refusal:
        with_sources(CATALOG, choice)
    assert refusal.value.message.startswith(message)
    assert refusal.value.field == "source"
