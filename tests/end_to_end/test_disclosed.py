"""What a rendered video says of itself: in the frame, in the file, and with a signature."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import c2pa
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from infinitetalk.cli import main
from infinitetalk.config import Settings
from infinitetalk.disclosure.metadata import xmp_packet
from infinitetalk.errors import Canceled, InvalidSetting
from infinitetalk.jobfolder import JobFolder, create_job
from infinitetalk.runner import Runner
from infinitetalk.spec import FPS, specify
from tests.disclosure.certificates import certified
from tests.end_to_end.reading import read_video

Make = Callable[..., Path]
SECONDS = 2.0  # 2 windows
SPEC = specify("tiny")


@pytest.fixture(scope="module")
def marking(settings: Settings) -> Settings:
    """Of a deployment that labels and signs."""
    pair = certified()
    return replace(settings, label="AI", c2pa_certificate=pair.certificate, c2pa_key=pair.key)


@pytest.fixture(scope="module")
def new_job(
    tmp_path_factory: pytest.TempPathFactory,
    portrait: Path,
    make_speech: Make,
    settings: Settings,
) -> Callable[[], JobFolder]:
    def new() -> JobFolder:
        folder = JobFolder(tmp_path_factory.mktemp("jobs") / "job")
        create_job(folder, SPEC, portrait, [make_speech(SECONDS)], settings)
        return folder

    return new


@pytest.fixture(scope="module")
def marked(marking: Settings, new_job: Callable[[], JobFolder]) -> JobFolder:
    """A labelled and signed job that was stopped after its first window, and resumed."""
    folder, runner = new_job(), Runner.load("tiny", marking)
    windows: list[int] = []
    with pytest.raises(Canceled):
        runner.run(
            folder,
            SPEC,
            on_progress=lambda moment: windows.append(moment.window),
            canceling=lambda: windows[-1:] == [2],
        )
    assert runner.run(folder, SPEC).resumed_at == 1
    return folder


def test_the_label_is_in_every_frame_and_the_model_never_sees_it(
    marked: JobFolder, tiny: Runner, new_job: Callable[[], JobFolder]
) -> None:
    plain = new_job()
    without = read_video(tiny.run(plain, SPEC).path).frames.astype(int)
    difference = np.abs(read_video(marked.result).frames - without).mean(axis=-1)  # f h w
    assert (difference[:, -14:, 2:14].mean(axis=(1, 2)) > 10).all()
    assert difference[:, :24].mean() < 2  # x264 codes the rest a little differently
    motion = [load_file(folder.checkpoint)["motion"] for folder in (plain, marked)]
    assert np.array_equal(*motion)


def test_a_signed_video_is_whole_and_its_signature_holds(marked: JobFolder) -> None:
    assert len(read_video(marked.result).frames) == round(SECONDS * FPS)
    with c2pa.Reader(str(marked.result)) as reader:
        found = json.loads(reader.json())
    problems = {status["code"] for status in found["validation_status"]}
    assert problems == {"signingCredential.untrusted"}  # our authority is known to nobody
    assert xmp_packet().encode() in marked.result.read_bytes()
    assert not marked.joined.exists()


def test_a_checkpoint_knows_the_label(marked: JobFolder) -> None:
    """So that no job goes on with another one."""
    with safe_open(marked.checkpoint, "np") as file:
        assert file.metadata()["label"] == "AI"


def test_what_could_not_be_signed_is_refused_before_the_model_is_loaded(
    marking: Settings, tmp_path: Path
) -> None:
    nowhere = replace(marking, home=tmp_path / "nothing is here", c2pa_key="/nowhere/key.pem")
    with pytest.raises(InvalidSetting):
        Runner.load("fast", nowhere)


def test_a_file_says_that_consent_was_stated_and_not_whose(
    portrait: Path, make_speech: Make, settings: Settings, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("INFINITETALK_HOME", str(settings.home))
    monkeypatch.setenv("INFINITETALK_REQUIRE_CONSENT", "1")
    output = tmp_path / "video.mp4"
    command = ["generate", "--preset", "tiny", "--image", str(portrait)]
    command += ["--audio", str(make_speech(0.4)), "--output", str(output)]
    assert main(command) == 2
    assert "consent_missing" in capsys.readouterr().err
    assert main([*command, "--consent", "Ada Lovelace"]) == 0
    assert json.loads(read_video(output).comment)["consent"] == "stated"
    assert b"Lovelace" not in output.read_bytes()
