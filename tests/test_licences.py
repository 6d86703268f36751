"""What is passed on says under which terms, and the pages about it name what there is."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import imageio_ffmpeg
import pytest

from docs.make_reference import raised
from infinitetalk.config import Settings, variable_name
from infinitetalk.disclosure.label import MAX_CHARACTERS
from infinitetalk.disclosure.metadata import DIGITAL_SOURCE_TYPE
from infinitetalk.media import ffmpeg
from infinitetalk.weights.catalog import CATALOG

ROOT = Path(__file__).parents[1]
NOTICE = (ROOT / "NOTICE").read_text("utf-8")
RESPONSIBLE = (ROOT / "docs/responsible-use.md").read_text("utf-8")
SOURCES = {source.repo: source for part in CATALOG.parts for source in part.sources}


def test_the_licence_is_the_one_that_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    licence = (ROOT / "LICENSE").read_text("utf-8")
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in licence and "Version 2.0, January 2004" in licence
    assert "9. Accepting Warranty" in licence and "END OF TERMS AND CONDITIONS" in licence
    assert all((ROOT / name).is_file() for name in project["license-files"])


@pytest.mark.parametrize("repo", SOURCES)
def test_the_notice_has_every_source_of_weights_with_its_licence(repo: str) -> None:
    [line] = [line for line in NOTICE.splitlines() if repo in line]
    licence = re.split(r"[; ]", SOURCES[repo].licence)[0]
    assert licence in line


def test_the_bundled_ffmpeg_is_under_the_licence_that_the_notice_names() -> None:
    assert imageio_ffmpeg.get_ffmpeg_exe()
    built = ffmpeg.run(["-buildconf"]).decode()
    options = re.findall(r"--enable-(gpl|version3|nonfree)\b", built)
    assert set(options) == {"gpl", "version3"}
    assert all(f"--enable-{option}" in NOTICE for option in options)


def test_the_page_names_settings_errors_and_limits_that_there_are() -> None:
    known = {variable_name(item) for item in fields(Settings)}
    assert set(re.findall(r"INFINITETALK_\w+", RESPONSIBLE)) <= known
    codes = {kind.code for kind in raised()}
    assert {"consent_missing", "signing_failed"} <= codes & set(re.findall(r"`(\w+)`", RESPONSIBLE))
    assert f"Up to {MAX_CHARACTERS} characters" in RESPONSIBLE
    assert DIGITAL_SOURCE_TYPE in RESPONSIBLE


def test_the_changelog_has_what_is_not_released_yet() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.findall(r"^## (.+)", changes, re.MULTILINE)[0] == "Unreleased"
