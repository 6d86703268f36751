import librosa
import numpy as np
import pytest

from infinitetalk.media.resample import resample


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 24000, 44100, 48000, 96000, 192000, 44101])
def test_pieces_equal_the_one_shot_resample(rate: int) -> None:
    wave = np.random.default_rng(0).uniform(-1, 1, 21 * rate + 123).astype(np.float32)
    blocks = np.split(wave, range(0, len(wave), rate // 3))
    joined = np.concatenate(list(resample(blocks, rate, 16000)))
    wanted = librosa.resample(wave, orig_sr=rate, target_sr=16000, res_type="soxr_hq")
    assert len(joined) == len(wanted)
    assert np.abs(joined - wanted).max() < 1e-5


@pytest.mark.parametrize("samples", [0, 1, 440, 441, 442, 441_000, 452_025, 452_026])
@pytest.mark.parametrize("block", [100_000, 452_025])
def test_no_sample_is_lost_where_pieces_meet(samples: int, block: int) -> None:
    wave = np.full(samples, 0.5, np.float32)
    blocks = [wave[start : start + block] for start in range(0, samples, block)]
    joined = [np.zeros(0), *resample(blocks, 44100, 16000)]
    assert sum(map(len, joined)) == -(-samples * 160 // 441)


def test_the_same_rate_passes_through() -> None:
    blocks = [np.ones(3, np.float32), np.zeros(2, np.float32)]
    assert list(resample(blocks, 16000, 16000)) == blocks
