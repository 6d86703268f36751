"""The fields of a request: what is understood, what is refused and in which words."""

import time
import unicodedata
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinitetalk.errors import InvalidField
from infinitetalk.serving.request import (
    GenerateRequest,
    check_sources,
    fingerprint,
    fresh_seed,
    parse_request,
    to_spec,
)
from infinitetalk.spec import DEFAULT_PROMPT, PRESETS, Box, SpeakingOrder

URL = "https://example.com/face.png?token=secret"


def short(value: object) -> str:
    """The name of a row."""
    return ascii(value)[:30]


def refusal(values: Mapping[str, object]) -> InvalidField:
    with pytest.raises(InvalidField) as refused:
        parse_request(values)
    return refused.value


@pytest.mark.parametrize(
    ("field", "value", "meant"),
    [
        ("steps", 4, 4),
        ("steps", "4", 4),
        ("seed", "0", 0),
        ("seed", 2**63 - 1, 2**63 - 1),
        ("text_guidance", "1.5", 1.5),
        ("audio_guidance", 2, 2.0),
        ("max_seconds", "10", 10.0),
        ("order", "one-after-the-other", SpeakingOrder.ONE_AFTER_THE_OTHER),
        ("boxes", [[0, 1, 2, 3], [4, 5, 6, 7]], [(0, 1, 2, 3), (4, 5, 6, 7)]),
        ("boxes", "[[0, 1, 2, 3], [4, 5, 6, 7]]", [(0, 1, 2, 3), (4, 5, 6, 7)]),
        ("audio_guidance_interval", [1, 4], [1, 4]),
        ("audio_guidance_interval", "[1, 4]", [1, 4]),
        ("step_cache_threshold", "0.2", 0.2),
        ("prompt", "", ""),
        ("prompt", "123", "123"),
        ("prompt", "e\N{COMBINING ACUTE ACCENT}", "é"),
        (
            "prompt",
            "\N{FAMILY}\u200d\N{RIGHT-TO-LEFT MARK}",
            "\N{FAMILY}\u200d\N{RIGHT-TO-LEFT MARK}",
        ),
        ("negative_prompt", "x" * 2000, "x" * 2000),
        ("steps", None, None),
        ("image", None, None),
    ],
    ids=short,
)
def test_a_value_means_the_same_as_text_and_as_json(
    field: str, value: object, meant: object
) -> None:
    assert getattr(parse_request({field: value}), field, None) == meant


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("steps", 0, "at least 1"),
        ("steps", 61, "at most 60"),
        ("steps", "four", "a whole number"),
        ("steps", 1.5, "a whole number"),
        ("steps", True, "not true or false"),
        ("steps", [1], "a whole number"),
        ("seed", -1, "at least 0"),
        ("seed", 2**63, "at most"),
        ("seed", "9" * 5000, "a whole number"),
        ("text_guidance", "nan", "finite"),
        ("text_guidance", float("inf"), "finite"),
        ("text_guidance", False, "not true or false"),
        ("audio_guidance", 20.1, "at most 20"),
        ("audio_guidance", "loud", "a number"),
        ("max_seconds", 0.1, "at least 0.2"),
        ("prompt", 123, "text"),
        ("prompt", {"a": "b"}, "text"),
        ("prompt", "x" * 2001, "longer than 2000"),
        ("prompt", "x" * 100_000, "longer than"),
        ("prompt", "a" + "\N{COMBINING ACUTE ACCENT}" * 10_000, "longer than"),
        ("prompt", "a\0b", "NUL"),
        ("negative_prompt", "\ud800", "no Unicode"),
        ("order", "backwards", "'together' or 'one-after-the-other'"),
        ("boxes", "[[0, 1, 2, 3]", "top, left, bottom, right"),
        ("boxes", "[" * 10_000, "top, left, bottom, right"),
        ("boxes", [[0, 1, 2]], "top, left, bottom, right"),
        ("boxes", [[0, 1, 2, 3.5]] * 2, "top, left, bottom, right"),
        ("boxes", [[0, 1, 2, 3]] * 3, "top, left, bottom, right"),
        ("audio_guidance_interval", "1-4", "[first step, last step]"),
        ("audio_guidance_interval", "[" * 10_000, "[first step, last step]"),
        ("audio_guidance_interval", [1], "[first step, last step]"),
        ("audio_guidance_interval", [1, 2.5], "[first step, last step]"),
        ("audio_guidance_interval", [True, 4], "[first step, last step]"),
        ("audio_guidance_interval", 4, "[first step, last step]"),
        ("step_cache_threshold", -0.1, "at least 0"),
        ("step_cache_threshold", 11, "at most 10"),
        ("resolution", "480p\nx", "letters, digits"),
        ("preset", "x" * 41, "longer than 40"),
        ("callback_url", 7, "text"),
        ("image", "https://example.com/a.png", "goes into image_url"),
        ("audio_2", "x", "goes into audio_2_url"),
    ],
    ids=short,
)
def test_a_value_that_cannot_be_meant_is_refused_by_its_name(
    field: str, value: object, words: str
) -> None:
    error = refusal({field: value})
    assert error.field == field
    assert error.message.startswith(field) and words in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize(
    "name", ["promt", "Prompt", "__class__", "größe", "\ud800", "x" * 100_000], ids=short
)
def test_an_unknown_field_is_named_in_plain_short_text(name: str) -> None:
    error = refusal({"prompt": "x", name: 1})
    assert "There is no field" in error.message and "audio_2_url" in error.message
    assert error.field is not None and error.field in error.message
    assert error.field.isascii() and len(error.field) <= 400


def test_a_refusal_repeats_neither_prompts_nor_urls() -> None:
    secret = "swordfish\0"
    assert "swordfish" not in refusal({"prompt": secret}).message
    assert "token" not in refusal({"image_url": [URL]}).message
    assert refusal({"prompt": secret}).__cause__ is None


def test_endless_accents_on_one_letter_cost_no_time() -> None:
    accents = "\N{COMBINING GRAVE ACCENT BELOW}\N{COMBINING ACUTE ACCENT}" * 50_000
    started = time.monotonic()
    refusal({"prompt": f"a{accents}"})
    assert time.monotonic() - started < 1  # sorting them would take seven seconds


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=2000))
def test_any_text_is_a_prompt_in_nfc_or_a_refusal(text: str) -> None:
    try:
        assert parse_request({"prompt": text}).prompt == unicodedata.normalize("NFC", text)
    except InvalidField as error:
        assert error.field == "prompt"
        assert any(c == "\0" or unicodedata.category(c) == "Cs" for c in text) or len(text) > 2000


@pytest.mark.parametrize(
    ("files", "values", "field"),
    [
        ([], {}, "image"),
        (["audio"], {}, "image"),
        (["image"], {}, "audio"),
        (["image"], {"audio_2_url": URL}, "audio"),
        (["image", "audio"], {"image_url": URL}, "image"),
        (["image", "audio"], {"audio_url": ""}, "audio"),
        (["image", "audio", "audio_2"], {"audio_2_url": URL}, "audio_2"),
        (["image", "audio"], {"order": "together"}, "order"),
        (["image", "audio"], {"boxes": [[0, 0, 1, 1]] * 2}, "boxes"),
    ],
)
def test_a_picture_and_a_voice_are_given_once_each(
    files: list[str], values: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidField) as refused:
        check_sources(parse_request(values), files)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("files", "values"),
    [
        (["image", "audio"], {}),
        ([], {"image_url": URL, "audio_url": URL}),
        (["image", "audio"], {"audio_2_url": URL, "order": "together"}),
        (["image", "audio", "audio_2"], {"boxes": [[0, 0, 1, 1]] * 2}),
    ],
)
def test_files_and_urls_may_be_mixed(files: list[str], values: dict[str, object]) -> None:
    check_sources(parse_request(values), files)


def test_what_is_absent_is_the_presets_choice() -> None:
    spec = to_spec(GenerateRequest(), "tiny", seeds=lambda: 7)
    tiny = PRESETS["tiny"]
    assert (spec.steps, spec.text_guidance, spec.prompt) == (2, tiny.text_guidance, DEFAULT_PROMPT)
    assert (spec.seed, spec.resolution, spec.boxes) == (7, "48p", ())


def test_what_is_given_is_in_the_spec() -> None:
    values = {
        "prompt": "a",
        "negative_prompt": "b",
        "seed": 0,
        "resolution": "720p",
        "steps": 3,
        "text_guidance": 0,
        "audio_guidance": 3,
        "audio_guidance_interval": [1, 2],
        "step_cache_threshold": 0.1,
        "max_seconds": 4,
        "preset": "fast",
        "order": "one-after-the-other",
        "boxes": [[0, 1, 2, 3], [4, 5, 6, 7]],
    }
    spec = to_spec(parse_request(values), "fast")
    assert spec.boxes == (Box(0, 1, 2, 3), Box(4, 5, 6, 7))
    assert spec.order is SpeakingOrder.ONE_AFTER_THE_OTHER
    assert spec.audio_guidance_interval == (1, 2)
    for field in values.keys() - {"boxes", "order", "audio_guidance_interval"}:
        assert getattr(spec, field) == values[field]


@pytest.mark.parametrize("preset", ["best", "auto", "no-such"])
def test_another_preset_than_the_deployed_one_is_refused(preset: str) -> None:
    with pytest.raises(InvalidField, match="runs the preset tiny") as refused:
        to_spec(GenerateRequest(preset=preset), "tiny")
    assert refused.value.field == "preset"


@pytest.mark.parametrize(
    ("preset", "values", "field"),
    [
        ("fast", {"steps": 13}, "steps"),
        ("tiny", {"resolution": "480p"}, "resolution"),
        ("tiny", {"boxes": [[0, 0, 1, 1]]}, "boxes"),
        ("tiny", {"audio_guidance_interval": [1, 3]}, "audio_guidance_interval"),
    ],
)
def test_the_deployed_preset_has_bounds_of_its_own(
    preset: str, values: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidField) as refused:
        to_spec(parse_request(values), preset)
    assert refused.value.field == field


def test_fresh_seeds_differ_and_are_short() -> None:
    seeds = {fresh_seed() for _ in range(100)}
    assert len(seeds) > 90 and all(0 <= seed < 2**31 for seed in seeds)


def test_one_request_has_one_fingerprint_however_it_was_written() -> None:
    as_json = {"steps": 4, "prompt": "é", "text_guidance": 1, "boxes": [[0, 0, 1, 1]] * 2}
    as_form = {
        "boxes": "[[0,0,1,1], [0,0,1,1]]",
        "text_guidance": "1.0",
        "prompt": "e\N{COMBINING ACUTE ACCENT}",
        "steps": "4",
        "seed": None,
    }
    digests = {"image": "1", "audio": "2"}
    there = fingerprint(parse_request(as_json), digests)
    assert there == fingerprint(parse_request(as_form), dict(reversed(digests.items())))


def test_whatever_decides_the_video_is_in_the_fingerprint() -> None:
    changes: list[dict[str, object]] = [
        {},
        {"prompt": "x"},
        {"negative_prompt": "x"},
        {"seed": 42},
        {"image_url": URL},
        {"image_url": URL + "2"},
        {"audio_url": URL},
        {"output_url": URL},
    ]
    files = [{"audio": "2"}, {"image": "2"}, {"audio": "3"}]
    prints = [fingerprint(parse_request(change), {}) for change in changes]
    prints += [fingerprint(GenerateRequest(), digests) for digests in files]
    assert len(set(prints)) == len(prints)
