import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from infinitetalk.media.loudness import measure, normalise


def split(wave: np.ndarray, *at: int) -> list[np.ndarray]:
    return np.split(wave, at)


def test_loudness_and_input_values_are_those_of_the_reference(golden: Path) -> None:
    case = json.loads((golden / "case_wav2vec/case.json").read_text())
    wanted = load_file(golden / "case_wav2vec/outputs.safetensors")
    wave = wanted["loaded_16k"]
    level = measure([wave])
    assert level.lufs == pytest.approx(case["measured_loudness_lufs"], abs=1e-6)
    assert np.allclose(wave * level.gain, wanted["loudness_normalised"], rtol=1e-4, atol=1e-7)
    assert np.abs(normalise(wave, level) - wanted["input_values"]).max() < 1e-5


def test_a_quiet_voice_is_lifted_as_in_the_reference(golden: Path) -> None:
    wave = load_file(golden / "case_wav2vec/inputs.safetensors")["second_audio_16k"]
    wanted = load_file(golden / "case_wav2vec/outputs.safetensors")["second_loudness_normalised"]
    assert np.allclose(wave * measure([wave]).gain, wanted, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "at", [(1,), (1599, 1600, 1601), (7, 9000, 9001), tuple(range(0, 36480, 411))]
)
def test_the_level_does_not_depend_on_the_blocks(golden: Path, at: tuple[int, ...]) -> None:
    wave = load_file(golden / "case_wav2vec/outputs.safetensors")["loaded_16k"]
    whole, parts = measure([wave]), measure(split(wave, *at))
    assert (parts.lufs, parts.mean, parts.variance) == pytest.approx(
        (whole.lufs, whole.mean, whole.variance), rel=1e-12
    )


# Made once with pyloudnorm 0.2.0: Meter(16000).integrated_loudness(rising(n)).
# At 7200 and 163201 samples the last block runs past the end.
@pytest.mark.parametrize(
    ("samples", "lufs"),
    [(6400, -28.13936192661497), (7199, -28.95651036363434), (7200, -29.141786133288893),
     (8000, -28.35477646098308), (163201, -27.44488294901303)],
)  # fmt: skip
def test_the_loudness_is_that_of_pyloudnorm(samples: int, lufs: float) -> None:
    noise = np.random.default_rng(samples).normal(size=samples)
    wave = noise * 0.05 * np.linspace(0.01, 1, samples)
    assert measure([wave]).lufs == pytest.approx(lufs, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_silence_and_a_constant_stay_finite(value: float) -> None:
    wave = np.full(16000, value, np.float32)
    level = measure([wave])
    assert np.isfinite(normalise(wave, level)).all()
    assert (level.lufs == -np.inf and level.gain == 1) == (value == 0)


def test_a_voice_that_is_clipped_all_the_time_stays_finite() -> None:
    wave = np.sign(np.sin(np.arange(16000) * 0.05)).astype(np.float32)
    level = measure([wave])
    assert np.isfinite(normalise(wave, level)).all()
    assert np.isfinite(level.gain) and level.gain < 1


def test_loud_speech_is_not_clipped() -> None:
    wave = np.random.default_rng(0).normal(0, 0.01, 160000).astype(np.float32)
    wave[::8000] = 0.9
    level = measure([wave])
    assert np.abs(wave * level.gain).max() > 1
    assert normalise(wave, level).std() == pytest.approx(1, abs=1e-3)
