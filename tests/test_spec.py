"""What can be asked for, and what is refused before anything is loaded."""

import json
from dataclasses import fields, replace

import pytest

from infinitetalk.errors import InvalidField
from infinitetalk.spec import (
    BUCKETS_480,
    BUCKETS_720,
    BUCKETS_DEMO,
    BUCKETS_TINY,
    MAX_PROMPT_CHARACTERS,
    PRESETS,
    Apg,
    Box,
    BucketTable,
    GenerationSpec,
    SpeakingOrder,
    check,
    spec_from_json,
    specify,
)

BOXES = (Box(0, 0, 20, 20), Box(0, 20, 20, 40))

# Another value for every field than `specify("best")` gives it.
OTHER: dict[str, object] = {
    "preset": "standard",
    "resolution": "720p",
    "steps": 12,
    "shift": 3.0,
    "text_guidance": 1.0,
    "audio_guidance": 2.0,
    "window": 33,
    "motion_frames": 5,
    "color_strength": 0.5,
    "prompt": "Someone sings.",
    "negative_prompt": "blurred",
    "seed": 7,
    "order": SpeakingOrder.ONE_AFTER_THE_OTHER,
    "boxes": BOXES,
    "max_seconds": 3.0,
    "apg": Apg(),
    "step_cache_threshold": 0.2,
    "audio_guidance_interval": (2, 6),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_alone_is_a_spec(name: str) -> None:
    spec, preset = specify(name), PRESETS[name]
    assert (spec.preset, spec.steps, spec.window) == (name, preset.steps, preset.window)
    assert spec.resolution == preset.default_resolution
    assert spec.buckets is preset.buckets[spec.resolution]


@pytest.mark.parametrize("name", PRESETS)
def test_every_resolution_of_a_preset_has_a_shift_and_buckets(name: str) -> None:
    preset = PRESETS[name]
    assert preset.shift.keys() == preset.buckets.keys()
    for resolution in preset.shift:
        assert specify(name, resolution=resolution).shift == preset.shift[resolution]


def test_choices_replace_what_the_preset_says_and_none_keeps_it() -> None:
    spec = specify("best", steps=7, audio_guidance=0.0, seed=3, prompt=None, max_seconds=None)
    assert (spec.steps, spec.audio_guidance, spec.seed) == (7, 0.0, 3)
    assert spec == replace(specify("best"), steps=7, audio_guidance=0.0, seed=3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", -3),
        ("steps", 61),
        ("text_guidance", -0.1),
        ("text_guidance", 20.5),
        ("text_guidance", float("nan")),
        ("audio_guidance", float("inf")),
        ("shift", 0.0),
        ("color_strength", 1.1),
        ("step_cache_threshold", -1.0),
        ("audio_guidance_interval", (0, 4)),
        ("audio_guidance_interval", (5, 4)),
        ("audio_guidance_interval", (1, 41)),
        ("seed", -1),
        ("seed", 2**63),
        ("window", 1),
        ("window", 80),
        ("window", 82),
        ("motion_frames", 0),
        ("motion_frames", 81),
        ("max_seconds", 0.1),
        ("max_seconds", float("nan")),
        ("max_seconds", float("inf")),
        ("boxes", BOXES[:1]),
        ("boxes", (*BOXES, BOXES[0])),
        ("prompt", "x" * (MAX_PROMPT_CHARACTERS + 1)),
        ("negative_prompt", "x" * (MAX_PROMPT_CHARACTERS + 1)),
        ("resolution", "1080p"),
    ],
)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_field(
    field: str, value: object
) -> None:
    with pytest.raises(InvalidField) as refused:
        specify("best", **{field: value})  # type: ignore[arg-type]
    assert refused.value.field == field
    assert field.split("_")[0] in refused.value.message or field in ("boxes", "resolution")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 1),
        ("steps", 60),
        ("text_guidance", 0.0),
        ("audio_guidance", 20.0),
        ("color_strength", 0.0),
        ("seed", 0),
        ("seed", 2**63 - 1),
        ("audio_guidance_interval", (1, 40)),
        ("audio_guidance_interval", (40, 40)),
        ("motion_frames", 80),
        ("max_seconds", 0.2),
        ("prompt", "x" * MAX_PROMPT_CHARACTERS),
        ("prompt", ""),
    ],
)
def test_the_ends_of_a_range_are_inside(field: str, value: object) -> None:
    check(specify("best", **{field: value}))  # type: ignore[arg-type]


def test_an_unknown_preset_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidField, match=r"'good'.*fast, standard, best, demo, tiny") as refused:
        specify("good")
    assert refused.value.field == "preset"


def test_a_resolution_the_preset_has_not_is_answered_with_those_it_has() -> None:
    with pytest.raises(InvalidField, match="demo renders at 128p, not at 480p"):
        specify("demo", resolution="480p")


def test_the_limit_of_steps_is_the_presets() -> None:
    with pytest.raises(InvalidField, match="between 1 and 12"):
        specify("fast", steps=13)


def test_an_interval_is_one_of_the_steps_that_are_asked_for() -> None:
    assert specify("fast", steps=6, audio_guidance_interval=(1, 6)).steps == 6
    with pytest.raises(InvalidField, match="between 1 and 4, not from 1 to 6"):
        specify("fast", audio_guidance_interval=(1, 6))


@pytest.mark.parametrize("field", [item.name for item in fields(GenerationSpec)])
def test_every_field_decides_the_fingerprint(field: str) -> None:
    spec = specify("best")
    assert getattr(spec, field) != OTHER[field]
    assert replace(spec, **{field: OTHER[field]}).fingerprint != spec.fingerprint  # type: ignore[arg-type]


def test_equal_specs_have_one_fingerprint() -> None:
    assert specify("demo", boxes=BOXES).fingerprint == specify("demo", boxes=BOXES).fingerprint


@pytest.mark.parametrize("spec", [specify("tiny"), GenerationSpec(**OTHER)], ids=["plain", "full"])  # type: ignore[arg-type]
def test_a_spec_survives_json(spec: GenerationSpec) -> None:
    again = spec_from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.fingerprint == spec.fingerprint


@pytest.mark.parametrize(
    "change",
    [{"fps": 25}, {"order": "at random"}, {"boxes": [{"top": 1}]}, {"apg": {"eta": 0}}],
    ids=["unknown field", "unknown order", "half a box", "unknown apg field"],
)
def test_json_of_another_version_is_no_spec(change: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        spec_from_json({**specify("tiny").to_json(), **change})


def test_json_from_before_there_were_intervals_has_none() -> None:
    values = specify("tiny").to_json()
    del values["audio_guidance_interval"]
    assert spec_from_json(values) == specify("tiny")


@pytest.mark.parametrize("missing", ["order", "boxes", "apg", "steps"])
def test_json_that_lacks_a_field_is_no_spec(missing: str) -> None:
    values = specify("tiny").to_json()
    del values[missing]
    with pytest.raises((KeyError, TypeError)):
        spec_from_json(values)


@pytest.mark.parametrize(
    ("table", "multiple"),
    [(BUCKETS_480, 64), (BUCKETS_720, 64), (BUCKETS_DEMO, 16), (BUCKETS_TINY, 16)],
    ids=["480p", "720p", "demo", "tiny"],
)
def test_bucket_sides_fill_whole_tokens_and_labels_are_their_ratio(
    table: BucketTable, multiple: int
) -> None:
    for label, (height, width) in table.items():
        assert height % multiple == width % multiple == 0
        assert abs(float(label) - height / width) < 0.0101
