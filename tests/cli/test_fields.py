"""The options of a video as they are typed and as they go over HTTP."""

import argparse
from typing import Any

import pytest

from infinitetalk.cli.fields import NAMES, add_fields, fields_of
from infinitetalk.serving.request import GenerateRequest, parse_request


def typed(*words: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_fields(parser)
    parser.add_argument("--preset")
    return fields_of(parser.parse_args(words))


def test_what_is_not_typed_is_no_field() -> None:
    assert typed() == {}


def test_what_is_typed_is_what_the_server_reads() -> None:
    words = "--audio-guidance-interval 1,4 --step-cache-threshold 0.2 --box 0,1,2,3 --box 4,5,6,7"
    request = parse_request(typed(*words.split()))
    assert request.audio_guidance_interval == [1, 4]
    assert request.step_cache_threshold == 0.2
    assert request.boxes == [(0, 1, 2, 3), (4, 5, 6, 7)]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--audio-guidance-interval", "1-4"),
        ("--audio-guidance-interval", "1,4,5"),
        ("--audio-guidance-interval", "1,half"),
        ("--box", "0,1,2"),
    ],
)
def test_lists_are_whole_numbers_with_commas(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        typed(option, value)
    assert f"{value!r} is not" in capsys.readouterr().err


def test_every_field_of_the_server_but_addresses_can_be_typed() -> None:
    fields = {name for name in GenerateRequest.model_fields if not name.endswith("_url")}
    assert {*NAMES, "boxes"} == fields
