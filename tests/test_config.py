"""Settings from the environment: all or a loud refusal."""

from dataclasses import fields
from pathlib import Path

import pytest

from infinitetalk.config import PREFIX, Settings, load_settings, variable_name
from infinitetalk.errors import InvalidSetting
from infinitetalk.weights.text_placement import TextPlacement


def test_an_empty_environment_gives_the_defaults() -> None:
    home = Path("~/.cache/infinitetalk").expanduser()
    assert load_settings({}) == Settings(home=home)
    assert load_settings({}).weights_folder == home / "weights"


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("HOME", "/srv/models", Path("/srv/models")),
        ("HOME", "~/models", Path("~/models").expanduser()),
        ("WEIGHTS", "~/weights", Path("~/weights").expanduser()),
        ("PRESET", "best", "best"),
        ("DEVICE", "cuda:1", "cuda:1"),
        ("PRECISION", "bfloat16", "bfloat16"),
        ("PRECISION", "fp8", "fp8"),
        ("SPEAKERS", "2", "2"),
        ("TEXT_ENCODER", "cpu", "cpu"),
        ("MEMORY_GIGABYTES", "44.5", 44.5),
        ("PROMPT_CACHE_MEGABYTES", "0", 0),
        ("ATTENTION", "flash", "flash"),
        ("COMPILE", "off", "off"),
        ("MAX_AUDIO_SECONDS", "90.5", 90.5),
        ("MAX_IMAGE_MEGAPIXELS", "12", 12.0),
        ("MAX_VIDEO_MEGAPIXELS", "2", 2.0),
        ("ENGINES", "0", 0),
        ("WORKERS", "2", 2),
        ("DATA", "~/jobs", Path("~/jobs").expanduser()),
        ("API_KEYS", "one, two,", ("one", "two")),
        ("FETCH_PORTS", "80,8080", (80, 8080)),
        ("GPU_PRICE_PER_HOUR", "1.5", 1.5),
    ],
)
def test_a_variable_sets_its_field(variable: str, text: str, value: object) -> None:
    settings = load_settings({PREFIX + variable: text})
    assert getattr(settings, variable.lower()) == value


def test_the_weights_can_lie_elsewhere() -> None:
    settings = load_settings({"INFINITETALK_WEIGHTS": "/w", "INFINITETALK_HOME": "/h"})
    assert settings.weights_folder == Path("/w")


def test_an_unknown_variable_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidSetting, match="INFINITETALK_PRESETS is not a setting") as refused:
        load_settings({"INFINITETALK_PRESETS": "demo"})
    for item in fields(Settings):
        assert variable_name(item) in refused.value.message


@pytest.mark.parametrize(
    ("variable", "text", "allowed"),
    [
        ("PRESET", "Best", "standard"),
        ("PRECISION", "float16", "bfloat16"),
        ("SPEAKERS", "3", "auto, 1, 2"),
        ("TEXT_ENCODER", "gpu", "device_fp8"),
        ("MEMORY_GIGABYTES", "0", "a positive number"),
        ("ATTENTION", "Sdpa", "sdpa"),
        ("MAX_AUDIO_SECONDS", "an hour", "a number"),
        ("MAX_AUDIO_SECONDS", " ", "a number"),
        ("DEVICE", "banana", "cuda:N"),
        ("DEVICE", "cuda:x", "cuda:N"),
        ("MAX_AUDIO_SECONDS", "0", "a positive number"),
        ("MAX_IMAGE_MEGAPIXELS", "-1", "a positive number"),
        ("MAX_VIDEO_MEGAPIXELS", "inf", "a positive number"),
        ("MAX_VIDEO_MEGAPIXELS", "nan", "a positive number"),
        ("ENGINES", "-1", "a whole number"),
        ("ENGINES", "1.5", "a whole number"),
        ("WORKERS", "0", "at least 1"),
        ("MAX_QUEUE", "0", "at least 1"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_what_is_allowed(
    variable: str, text: str, allowed: str
) -> None:
    with pytest.raises(InvalidSetting) as refused:
        load_settings({PREFIX + variable: text})
    assert PREFIX + variable in refused.value.message
    assert repr(text) in refused.value.message
    assert allowed in refused.value.message


def test_variables_of_others_are_none_of_our_business() -> None:
    assert load_settings({"PATH": "/bin", "OTHER_INFINITETALK_X": "1"}) == load_settings({})


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITETALK_PRESET", "tiny")
    assert load_settings().preset == "tiny"


@pytest.mark.parametrize("item", fields(Settings), ids=lambda item: item.name)
def test_every_setting_says_what_it_means(item: object) -> None:
    assert item.metadata["meaning"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["HOME", "ATTENTION", "MAX_AUDIO_SECONDS"])
def test_an_empty_value_is_no_value(name: str) -> None:
    with pytest.raises(InvalidSetting, match=f"INFINITETALK_{name} is empty"):
        load_settings({f"INFINITETALK_{name}": ""})


def test_a_numbered_device_is_taken() -> None:
    assert load_settings({"INFINITETALK_DEVICE": "cuda:3"}).device == "cuda:3"


def test_secrets_do_not_show() -> None:
    secrets = {
        "INFINITETALK_API_KEYS": "k-123",
        "INFINITETALK_WEBHOOK_SECRET": "w-123",
        "HF_TOKEN": "h-123",
    }
    assert "-123" not in repr(load_settings(secrets))


def test_the_hub_is_set_by_the_variables_of_its_own_tools() -> None:
    settings = load_settings({"HF_TOKEN": "hf_abc", "HF_ENDPOINT": "https://mirror.example"})
    assert (settings.hf_token, settings.hf_endpoint) == ("hf_abc", "https://mirror.example")


@pytest.mark.parametrize("text", ["hf_abc\n", " hf_abc ", "\thf_abc\r\n"])
def test_a_token_is_taken_without_what_surrounds_it(text: str) -> None:
    assert load_settings({"HF_TOKEN": text}).hf_token == "hf_abc"
    assert load_settings({"HF_TOKEN": text.replace("hf_abc", "")}) == load_settings({})


@pytest.mark.parametrize("text", ["hf_äbc", "hf_\nabc", "hf_a\x00bc", "hf_\u200babc"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InvalidSetting, match="HF_TOKEN") as refused:
        load_settings({"HF_TOKEN": text})
    assert "bc" not in refused.value.message


@pytest.mark.parametrize("name", ["HF_TOKEN", "HF_ENDPOINT"])
def test_an_empty_variable_of_the_hub_is_unset_and_a_second_name_is_unknown(name: str) -> None:
    assert load_settings({name: ""}) == load_settings({})
    with pytest.raises(InvalidSetting, match=f"INFINITETALK_{name} is not a setting"):
        load_settings({f"INFINITETALK_{name}": "x"})


def test_jobs_lie_under_home_unless_they_have_a_place() -> None:
    assert load_settings({"INFINITETALK_HOME": "/h"}).data_folder == Path("/h/data")
    assert load_settings({"INFINITETALK_DATA": "/d"}).data_folder == Path("/d")


@pytest.mark.parametrize("text", [",", " , ,"])
def test_a_list_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidSetting, match=r"API_KEYS is .* a list of nothing"):
        load_settings({"INFINITETALK_API_KEYS": text})


def test_one_bad_item_of_a_list_is_named() -> None:
    with pytest.raises(InvalidSetting, match="FETCH_PORTS is 'http'; it must be a whole number"):
        load_settings({"INFINITETALK_FETCH_PORTS": "80,http"})


def test_the_places_of_the_text_encoder_are_those_there_are() -> None:
    (item,) = (item for item in fields(Settings) if item.name == "text_encoder")
    assert {*item.metadata["choices"]} == {"auto", *TextPlacement}
