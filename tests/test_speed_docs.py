"""docs/speed.md says what presets, guidance, options and settings are."""

import argparse
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from infinitetalk.cli import parser
from infinitetalk.cli.fields import add_fields
from infinitetalk.config import Settings, variable_name
from infinitetalk.models.attention import BACKENDS
from infinitetalk.sampling.sampler import Guidance
from infinitetalk.serving.request import GenerateRequest
from infinitetalk.serving.status import describe
from infinitetalk.spec import GenerationSpec, specify
from tests.jobs.records import a_job

PAGE = (Path(__file__).parents[1] / "docs" / "speed.md").read_text("utf-8")


def forwards(spec: GenerationSpec) -> int:
    """Of a window."""
    guidance = Guidance.of(spec)
    return sum(len(guidance.branches_at(step)) for step in range(spec.steps))


@pytest.mark.parametrize("preset", ["fast", "standard", "best"])
def test_the_forwards_of_a_preset(preset: str) -> None:
    spec = specify(preset)
    guidance = f"{spec.text_guidance:g}, {spec.audio_guidance:g}"
    each = forwards(spec) // spec.steps
    assert f"| `{preset}` | {spec.steps} | {guidance} | {each} | {forwards(spec)} |" in PAGE


def test_the_forwards_of_every_interval() -> None:
    rows = re.findall(r"^\| (\d),(\d) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 4
    for first, last, told in rows:
        spec = specify("standard", audio_guidance_interval=(int(first), int(last)))
        assert forwards(spec) == int(told)


def test_the_example_asks_for_what_it_says() -> None:
    [example] = re.findall(r"^```sh\n\.venv/bin/infinitetalk (.*?)^```", PAGE, re.M | re.S)
    options = parser().parse_args(shlex.split(example.replace("\\\n", " ")))
    assert options.audio_guidance_interval == (1, 4)


def test_every_option_field_and_setting_on_the_page_exists() -> None:
    options = argparse.ArgumentParser()
    add_fields(options)
    for option in re.findall(r"`(--[a-z-]+)`", PAGE):
        assert option in options.format_help()
    settings = {variable_name(item) for item in fields(Settings)}
    assert set(re.findall(r"INFINITETALK_[A-Z_]+", PAGE)) <= settings
    counted = describe(a_job()).keys()
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", PAGE)) - BACKENDS.keys()
    assert named <= GenerateRequest.model_fields.keys() | counted
