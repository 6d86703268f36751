"""The figures of a report, from measurements whose answer is known."""

import json
from dataclasses import replace

import numpy as np
import pytest

from infinitetalk.report.measure import Measurements
from infinitetalk.report.numbers import MAX_LAG, numbers_of

FRAMES = 100


def measurements(
    motion: np.ndarray, loudness: np.ndarray | None, colour: np.ndarray | None = None
) -> Measurements:
    grey = np.full((len(motion), 3), 100.0) if colour is None else colour
    return Measurements("x", "h264", 96, 96, loudness, None, (motion,), grey, ())


def voice() -> np.ndarray:
    """Loudness in dB that rises and falls without a rhythm."""
    knots = np.random.default_rng(1).uniform(-50, -15, FRAMES // 5 + 1)
    return np.interp(np.arange(FRAMES) / 5, np.arange(len(knots)), knots)


@pytest.mark.parametrize("late", [-6, -1, 0, 1, 6])
def test_the_shift_of_the_mouth_is_found(late: int) -> None:
    motion = np.roll(voice() + 60, late)
    [mouth] = numbers_of(measurements(motion, voice()), None).mouths
    assert mouth.lag_s == pytest.approx(late / 25)
    assert mouth.best_correlation is not None and mouth.best_correlation > 0.98


def test_a_mouth_that_follows_the_voice_correlates_and_noise_does_not() -> None:
    follows = numbers_of(measurements(voice() + 60, voice()), None).mouths[0]
    noise = np.random.default_rng(2).uniform(0, 5, FRAMES)
    random = numbers_of(measurements(noise, voice()), None).mouths[0]
    assert follows.correlation == pytest.approx(1, abs=0.01)
    assert random.correlation == pytest.approx(0, abs=0.35)


def test_motion_in_speech_is_told_from_motion_in_silence() -> None:
    loudness = np.where(np.arange(FRAMES) < 50, -80.0, -20.0)
    motion = np.where(np.arange(FRAMES) < 50, 0.5, 4.0)
    [mouth] = numbers_of(measurements(motion, loudness), None).mouths
    assert (mouth.motion_in_silence, mouth.motion_in_speech) == (0.5, 4.0)


@pytest.mark.parametrize(
    ("motion", "loudness"),
    [
        (np.ones(FRAMES), voice()),  # nothing moves
        (voice() + 60, np.full(FRAMES, -80.0)),  # nobody speaks
        (np.arange(5.0), np.arange(5.0)),  # too short
        (np.zeros(1), np.zeros(1)),
        (voice(), None),  # no sound
    ],
)
def test_where_nothing_can_be_compared_no_figure_is_given(
    motion: np.ndarray, loudness: np.ndarray | None
) -> None:
    numbers = numbers_of(measurements(motion, loudness), None)
    assert (numbers.mouths[0].correlation, numbers.mouths[0].lag_s) == (None, None)
    json.dumps(numbers.to_json(measurements(motion, loudness)), allow_nan=False)


def test_drift_counts_from_the_first_second() -> None:
    colour = np.full((FRAMES, 3), 100.0)
    colour[25:50, 1] += 9  # for a second
    colour[75:, 0] -= 3  # to the end
    numbers = numbers_of(measurements(voice(), voice(), colour), None)
    assert numbers.colour_drift == (-3, 0, 0)
    assert numbers.largest_drift == 9


def test_the_json_has_every_second_and_the_stages() -> None:
    measured = measurements(voice() + 60, voice())
    told = numbers_of(measured, {"denoising": 2.5}).to_json(measured)
    assert told["stages"] == {"denoising": 2.5}
    assert len(told["by_second"]) == told["seconds"] == 4
    assert told["by_second"][0]["red_green_blue"] == [100, 100, 100]


def test_two_mouths_are_two_figures() -> None:
    measured = measurements(voice() + 60, voice())
    both = replace(measured, motion=(voice() + 60, np.roll(voice() + 60, 3)))
    first, second = numbers_of(both, None).mouths
    assert (first.lag_s, second.lag_s) == (0, 3 / 25)
    assert MAX_LAG >= 3
