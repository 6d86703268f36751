"""The last steps of a video: marked, verified, named; or nothing under its name."""

import shutil
from pathlib import Path

import pytest

from infinitetalk.config import Settings
from infinitetalk.disclosure.credentials import Sign, video_signer
from infinitetalk.disclosure.marking import check_disclosure, publish_marked
from infinitetalk.disclosure.metadata import xmp_packet
from infinitetalk.errors import EncodingFailed, InvalidSetting, SigningFailed
from infinitetalk.media.writer import count_frames
from tests.disclosure.certificates import Pair
from tests.disclosure.conftest import FRAMES


def cut_off(video: Path, signed: Path) -> None:
    signed.write_bytes(video.read_bytes()[:-3000])


def refuse(video: Path, signed: Path) -> None:
    signed.write_bytes(b"half")
    raise SigningFailed("The video could not be signed.")


@pytest.fixture
def video(joined: Path, tmp_path: Path) -> Path:
    """A copy that may be marked."""
    return Path(shutil.copy(joined, tmp_path))


@pytest.mark.parametrize("is_signed", [False, True], ids=["unsigned", "signed"])
def test_a_marked_video_plays_and_leaves_nothing_beside_it(
    video: Path, pair: Pair, is_signed: bool
) -> None:
    settings = Settings(c2pa_certificate=pair.certificate, c2pa_key=pair.key)
    target = video.with_name("result.mp4")
    publish_marked(video, target, FRAMES, video_signer(settings) if is_signed else None)
    assert count_frames(target) == FRAMES
    assert xmp_packet().encode() in target.read_bytes()
    assert (b"c2pa" in target.read_bytes()) == is_signed
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(("sign", "error"), [(refuse, SigningFailed), (cut_off, EncodingFailed)])
def test_a_signature_that_fails_publishes_nothing(
    video: Path, sign: Sign, error: type[Exception]
) -> None:
    with pytest.raises(error):
        publish_marked(video, video.with_name("result.mp4"), FRAMES, sign)
    assert list(video.parent.iterdir()) == [video]


@pytest.mark.parametrize("settings", [Settings(label="é"), Settings(c2pa_key="/nowhere")])
def test_settings_that_could_mark_nothing_are_refused(settings: Settings) -> None:
    with pytest.raises(InvalidSetting):
        check_disclosure(settings)
    check_disclosure(Settings())
