"""Settings from the environment: all or a loud refusal."""

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from infinitetalk.config import (
    MODAL_GPUS,
    PREFIX,
    Settings,
    environment_of,
    load_settings,
    variable_name,
)
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
        ("GPU", "H100", ("H100",)),
        ("GPU", "L40S, RTX-PRO-6000,A100-80GB", ("L40S", "RTX-PRO-6000", "A100-80GB")),
        ("GPU_MIN", "0", 0),
        ("GPU_SPARE", "2", 2),
        ("BENTO", "~/bento", Path("~/bento").expanduser()),
        ("IMAGE", "registry.example/infinitetalk:1", "registry.example/infinitetalk:1"),
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
        ("GPU", "T4", "L40S"),
        ("GPU", "l40s", "L40S"),
        ("GPU_MIN", "-1", "a whole number"),
        ("ATTEMPT_HOURS", "0", "a positive number"),
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


BOUNDS = [  # the last value that is taken, and one beyond
    ("WORKERS", "least", "1", "0"),
    ("MAX_QUEUE", "least", "1", "0"),
    ("MAX_WATCHERS", "least", "1", "0"),
    ("MAX_FILE_MEGABYTES", "least", "1", "0"),
    ("FETCH_PORTS", "least", "1", "0"),
    ("FETCH_PORTS", "most", "65535", "65536"),
    ("GPU_LIMIT", "least", "1", "0"),
    ("IDLE_SECONDS", "least", "2", "1"),
    ("IDLE_SECONDS", "most", "3600", "3601"),
    ("ATTEMPT_HOURS", "most", "24", "24.5"),
    ("START_MINUTES", "least", "1", "0.5"),
    ("START_MINUTES", "most", "60", "60.5"),
]


def test_every_bound_is_in_the_table() -> None:
    bounds = {
        (item.name.upper(), side)
        for item in fields(Settings)
        for side, none in (("least", 0), ("most", float("inf")))
        if item.metadata[side] != none
    }
    assert bounds == {(variable, side) for variable, side, *_ in BOUNDS}


@pytest.mark.parametrize(("variable", "side", "last", "beyond"), BOUNDS)
def test_a_bound_is_the_last_value_that_is_taken(
    variable: str, side: str, last: str, beyond: str
) -> None:
    taken = getattr(load_settings({PREFIX + variable: last}), variable.lower())
    assert taken in (int(last), (int(last),))
    with pytest.raises(InvalidSetting) as refused:
        load_settings({PREFIX + variable: beyond})
    assert (
        refused.value.message == f"{PREFIX}{variable} is '{beyond}'; it must be at {side} {last}."
    )


def test_gpus_are_refused_as_a_whole_when_one_is_unknown() -> None:
    with pytest.raises(InvalidSetting, match="INFINITETALK_GPU is 'T4'") as refused:
        load_settings({"INFINITETALK_GPU": "L40S,T4"})
    for name in MODAL_GPUS:
        assert name in refused.value.message


# A value of every setting that travels, other than its default.
TRAVELLING = {
    "INFINITETALK_PRESET": "best",
    "INFINITETALK_PRECISION": "fp8",
    "INFINITETALK_SPEAKERS": "2",
    "INFINITETALK_TEXT_ENCODER": "device_fp8",
    "INFINITETALK_MEMORY_GIGABYTES": "44.3",
    "INFINITETALK_PROMPT_CACHE_MEGABYTES": "0",
    "INFINITETALK_ATTENTION": "sage",
    "INFINITETALK_COMPILE": "on",
    "INFINITETALK_LABEL": "AI-generated",
    "INFINITETALK_REQUIRE_CONSENT": "1",
    "INFINITETALK_C2PA_TIMESTAMP_URL": "http://time.example",
    "INFINITETALK_MAX_AUDIO_SECONDS": "90.1",
    "INFINITETALK_MAX_IMAGE_MEGAPIXELS": "12.5",
    "INFINITETALK_MAX_VIDEO_MEGAPIXELS": "1e-07",
    "INFINITETALK_MAX_QUEUE": "7",
    "INFINITETALK_MAX_WATCHERS": "8",
    "INFINITETALK_MAX_FILE_MEGABYTES": "9",
    "INFINITETALK_RETENTION_HOURS": "0.1",
    "INFINITETALK_MAX_DISK_GIGABYTES": "1e+300",
    "INFINITETALK_MIN_FREE_GIGABYTES": "2.5",
    "INFINITETALK_WAIT_SECONDS": "99.9",
    "INFINITETALK_STALL_SECONDS": "333",
    "INFINITETALK_GPU_PRICE_PER_HOUR": "1.95",
    "INFINITETALK_DAILY_BUDGET_USD": "20",
    "INFINITETALK_FETCH_PORTS": "443,8443",
    "INFINITETALK_FETCH_ALLOWED_HOSTS": "minio:9000,[fd00::1]:80",
    "INFINITETALK_FETCH_SECONDS": "12",
    "HF_ENDPOINT": "https://mirror.example",
    "INFINITETALK_GPU_LIMIT": "3",
}
STAYING = {  # secrets, folders and devices of this machine, and how a deployment is made
    "INFINITETALK_HOME": "/h",
    "INFINITETALK_WEIGHTS": "/w",
    "INFINITETALK_DEVICE": "cuda:1",
    "INFINITETALK_DATA": "/d",
    "INFINITETALK_ENGINES": "2",
    "INFINITETALK_WORKERS": "2",
    "INFINITETALK_API_KEYS": "secret-1,secret-2",
    "INFINITETALK_WEBHOOK_SECRET": "secret-3",
    "HF_TOKEN": "secret-4",
    "INFINITETALK_C2PA_CERTIFICATE": "/certificate.pem",
    "INFINITETALK_C2PA_KEY": "secret-5",
    "INFINITETALK_GPU": "H100,H200",
    "INFINITETALK_GPU_MIN": "1",
    "INFINITETALK_GPU_SPARE": "1",
    "INFINITETALK_IDLE_SECONDS": "60",
    "INFINITETALK_ATTEMPT_HOURS": "6",
    "INFINITETALK_START_MINUTES": "10",
    "INFINITETALK_BENTO": "/b",
    "INFINITETALK_IMAGE": "i:1",
    "INFINITETALK_REGISTRY_SECRET": "registry",
    "INFINITETALK_MODAL_SECRET": "infinitetalk",
}


def test_every_setting_is_below() -> None:
    assert {variable_name(item) for item in fields(Settings)} == {*TRAVELLING, *STAYING}


def test_another_machine_gets_the_same_choices_and_nothing_of_this_one() -> None:
    told = environment_of(load_settings(TRAVELLING | STAYING))
    assert told.keys() == TRAVELLING.keys()
    assert load_settings(told) == load_settings(TRAVELLING)


def test_no_secret_travels() -> None:
    assert "secret" not in str(environment_of(load_settings(TRAVELLING | STAYING)))


def test_defaults_need_not_be_told() -> None:
    assert environment_of(load_settings({})) == {}
    assert environment_of(replace(Settings(), preset="standard")) == {
        "INFINITETALK_PRESET": "standard"
    }


def test_a_wrong_setting_ends_a_command_with_one_sentence() -> None:
    code = "from infinitetalk.config import settings_or_exit; settings_or_exit()"
    environment = {"INFINITETALK_GPU": "T4"}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert len(ended.stderr.splitlines()) == 1
    assert "INFINITETALK_GPU is 'T4'" in ended.stderr
