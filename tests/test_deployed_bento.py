"""Which Bento a deployment takes: the named one, or that of exactly the files of the checkout.

What `bentoml build` makes of this repository is in test_bento.py; here the checkout is a small one.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from infinitetalk.bento import FILES, PACKAGE, current_bento, deployed_bento, source_version
from infinitetalk.config import Settings
from infinitetalk.errors import InvalidSetting

ROOT = Path(__file__).parents[1]
SERVICE = """
import bentoml


@bentoml.service(name="infinitetalk")
class Sample:
    @bentoml.api
    def hello(self) -> str:
        return "hello"
"""
BENTOFILE = """
service: "service:Sample"
include: ["/service.py", "/infinitetalk/"]
"""
BUILD = """
import sys
from pathlib import Path

sys.path.append(sys.argv[1])
from infinitetalk.bento import current_bento
from infinitetalk.errors import InvalidSetting

try:
    current_bento(Path(sys.argv[2]))
except InvalidSetting as error:
    print(error.message)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    checkout = tmp_path / "checkout"
    for name in (*FILES, f"{PACKAGE}/__init__.py", f"{PACKAGE}/media/sound.py"):
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (checkout / "service.py").write_text(SERVICE)
    (checkout / "bentofile.yaml").write_text(BENTOFILE)
    return checkout


def kept(checkout: Path, version: str) -> Path:
    """A Bento that was built before."""
    bento = checkout / "build/bentoml/bentos" / PACKAGE / version
    bento.mkdir(parents=True)
    (bento / "bento.yaml").write_text("service: service:Sample")
    return bento


def test_a_bento_is_built_of_what_there_is_and_earlier_ones_go(checkout: Path) -> None:
    before = kept(checkout, "0123456789abcdef")
    bento = current_bento(checkout)
    assert (bento.name, bento.parent) == (source_version(checkout), before.parent)
    assert (bento / "src/service.py").read_text() == SERVICE
    assert (bento / f"src/{PACKAGE}/media/sound.py").is_file()
    assert (bento / "env/docker/Dockerfile").is_file()
    assert not before.exists()


def test_a_bento_of_these_files_is_not_built_again(checkout: Path) -> None:
    bento = kept(checkout, source_version(checkout))
    assert current_bento(checkout) == bento
    assert [path.name for path in bento.iterdir()] == ["bento.yaml"]


@pytest.mark.parametrize("name", [*FILES, f"{PACKAGE}/media/sound.py"])
def test_another_content_is_another_version(checkout: Path, name: str) -> None:
    before = source_version(checkout)
    (checkout / name).write_text("changed")
    assert source_version(checkout) != before


def test_another_name_is_another_version(checkout: Path) -> None:
    before = source_version(checkout)
    (checkout / PACKAGE / "media/sound.py").rename(checkout / PACKAGE / "media/voice.py")
    assert source_version(checkout) != before


def test_what_stays_out_of_the_bento_changes_no_version(checkout: Path) -> None:
    before = source_version(checkout)
    for name in ("docs/a.md", f"{PACKAGE}/__pycache__/a.pyc", "build/bentoml/a"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("new")
    assert source_version(checkout) == before


def test_a_bento_that_cannot_be_built_says_why(checkout: Path) -> None:
    (checkout / "bentofile.yaml").write_text("service: 'service:Missing'")
    with pytest.raises(InvalidSetting, match=r"(?s)could not be built:.*Missing"):
        current_bento(checkout)


def test_where_bentoml_is_not_installed_a_sentence_says_what_to_do(checkout: Path) -> None:
    command = [sys.executable, "-I", "-S", "-c", BUILD, str(ROOT), str(checkout)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert len(said.splitlines()) == 1
    for way in (".venv/bin/modal", "INFINITETALK_BENTO", "INFINITETALK_IMAGE"):
        assert way in said
    assert not (checkout / "build").exists()


def test_a_named_bento_is_taken_as_it_is(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bento = kept(checkout, "named")
    monkeypatch.chdir(checkout)
    named = deployed_bento(Settings(bento=bento.relative_to(checkout)), checkout)
    assert (named, named.is_absolute()) == (bento, True)


def test_a_folder_that_is_no_bento_is_refused(checkout: Path) -> None:
    with pytest.raises(InvalidSetting, match="INFINITETALK_BENTO is no folder of a built Bento"):
        deployed_bento(Settings(bento=checkout), checkout)
