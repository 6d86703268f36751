"""The sheet: voice, frames, mouth and colours over one time line; under it the stages."""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from infinitetalk.report.chart import Area, Chart, curve, round_step
from infinitetalk.report.measure import SILENCE_DB, Measurements
from infinitetalk.report.numbers import Numbers, drift_of
from infinitetalk.spec import FPS

WIDTH = 1600  # pixels
LEFT, RIGHT = 110, 1560  # of the time line
SLOTS = 12  # places for pictures in the strip
TALLEST = 200  # pixels of a picture in the strip
GROUND, PANEL, GRID = "#ffffff", "#f5f6f8", "#dfe3e8"
INK, FAINT = "#1d2430", "#6b7685"
VOICE, VOICE_AREA = "#5b7fa6", "#d3dfec"
MOUTHS = ("#c8452c", "#7a4fb0")
RED, GREEN, BLUE = "#cf3f3f", "#3a8f4d", "#3566c2"
STAGES = ("#c3cbd6", "#8fb0cf", "#3f6b96", "#d9a441", "#6aa67c")
MOST_POINTS = 1450  # of a line
MIN_LEVELS = 4.0  # of 255: a smaller drift is drawn small


def draw_sheet(measured: Measurements, numbers: Numbers) -> Image.Image:
    """Draw everything there is to see of one video."""
    strip = _strip_height(measured)
    top = 250 + strip + 60  # of the mouth
    chart = Chart(WIDTH, top + 546, GROUND)
    _head(chart, numbers)
    _voice(chart, Area(LEFT, 130, RIGHT, 240), measured)
    _frames(chart, Area(LEFT, 250, RIGHT, 250 + strip), measured)
    _mouth(chart, Area(LEFT, top, RIGHT, top + 180), measured, numbers)
    _colours(chart, Area(LEFT, top + 240, RIGHT, top + 390), measured)
    _time(chart, Area(LEFT, top + 390, RIGHT, top + 390), measured.seconds)
    _stages(chart, Area(LEFT, top + 440, RIGHT, top + 470), numbers.stages)
    return chart.picture()


def _head(chart: Chart, numbers: Numbers) -> None:
    chart.text((40, 32), numbers.name, INK, 28)
    facts = (
        f"{numbers.seconds:.2f} s   {numbers.frames} frames   "
        f"{numbers.width} x {numbers.height}   {numbers.codec}"
    )
    chart.text((40, 74), facts, FAINT, 17)
    right = float(RIGHT)
    for value, meaning in reversed(_figures(numbers)):
        width = max(chart.text_width(meaning, 14), chart.text_width(value, 26))
        chart.text((right - width, 30), value, INK, 26)
        chart.text((right - width, 66), meaning, FAINT, 14)
        right -= width + 44


def _figures(numbers: Numbers) -> list[tuple[str, str]]:
    figures = []
    for index, mouth in enumerate(numbers.mouths, 1):
        whose = f" {index}" if len(numbers.mouths) > 1 else ""
        if mouth.correlation is None or mouth.lag_s is None:
            figures.append(("-", f"mouth{whose} and voice"))
            continue
        figures.append((f"{mouth.correlation:+.2f}", f"mouth{whose} and voice"))
        figures.append((f"{mouth.lag_s * 1000:+.0f} ms", "best agreement at"))
    figures.append((f"{numbers.largest_drift:.1f} of 255", "largest colour drift"))
    if numbers.stages:
        figures.append((f"{sum(numbers.stages.values()):.1f} s", "rendered in"))
    return figures


def _voice(chart: Chart, area: Area, measured: Measurements) -> None:
    chart.box(area, PANEL)
    _name(chart, area, "voice")
    if measured.wave is None:
        chart.text(area.at(0.5, 0.5), "no sound", FAINT, 16, "mm")
        return
    peak = max(float(np.abs(measured.wave).max()), 0.05)
    lows, highs = (curve(area, measured.wave[:, side], -peak, peak) for side in (0, 1))
    chart.filled([*highs, *reversed(lows)], VOICE)
    chart.line(highs, VOICE)
    chart.line(lows, VOICE)


def _strip_height(measured: Measurements) -> int:
    slot = (RIGHT - LEFT) / SLOTS
    return round(min(slot * measured.height / measured.width, TALLEST))


def _frames(chart: Chart, area: Area, measured: Measurements) -> None:
    """Each picture where it is shown: in the middle of its share of the time."""
    _name(chart, area, "frames")
    count = len(measured.strip)
    slot = area.width / count
    width = min(slot - 4, area.height * measured.width / measured.height)
    height = width * measured.height / measured.width
    for index, picture in enumerate(measured.strip):
        left = area.left + (index + 0.5) * slot - width / 2
        top = area.top + (area.height - height) / 2
        chart.paste(picture, Area(left, top, left + width, top + height))


def _mouth(chart: Chart, area: Area, measured: Measurements, numbers: Numbers) -> None:
    _panel(chart, area, measured.seconds)
    _name(chart, area, "mouth")
    names = [("loudness, dB", VOICE)]
    if measured.loudness is not None:
        low = max(SILENCE_DB, float(np.percentile(measured.loudness, 2)) - 3)
        high = float(measured.loudness.max()) + 3
        points = curve(area, _shown(measured.loudness), low, high)
        chart.filled([area.at(0, 0), *points, area.at(1, 0)], VOICE_AREA)
        chart.line(points, VOICE)
        chart.text((area.right + 6, area.top), f"{high:.0f}", VOICE, 13, "la")
        chart.text((area.right + 6, area.bottom), f"{low:.0f}", VOICE, 13, "ld")
    highest = max(1.0, *(float(np.percentile(motion, 99.5)) * 1.1 for motion in measured.motion))
    for index, (motion, ink) in enumerate(zip(measured.motion, MOUTHS, strict=False), 1):
        chart.line(curve(area, _shown(motion), 0, highest), ink, 1.6)
        whose = f" {index}" if len(measured.motion) > 1 else ""
        names.append((f"motion of mouth{whose}, levels a frame", ink))
    chart.text((area.left - 10, area.top), f"{highest:.1f}", FAINT, 13, "ra")
    chart.text((area.left - 10, area.bottom), "0", FAINT, 13, "rd")
    still = " / ".join(_still(mouth.motion_in_speech, mouth.motion_in_silence)
                       for mouth in numbers.mouths)  # fmt: skip
    _legend(chart, area, names, f"mean motion while it is loud and quiet: {still}")


def _still(speech: float | None, silence: float | None) -> str:
    return " and ".join("-" if value is None else f"{value:.2f}" for value in (speech, silence))


def _colours(chart: Chart, area: Area, measured: Measurements) -> None:
    _panel(chart, area, measured.seconds)
    _name(chart, area, "colour")
    drift = drift_of(measured.colour)
    most = max(MIN_LEVELS, float(np.abs(drift).max()) * 1.1)
    chart.line([area.at(0, 0.5), area.at(1, 0.5)], GRID, 2)
    for channel, ink in enumerate((RED, GREEN, BLUE)):
        chart.line(curve(area, _shown(drift[:, channel]), -most, most), ink, 1.6)
    for share, value in ((1, most), (0.5, 0), (0, -most)):
        at = area.at(0, share)
        chart.text((at[0] - 10, at[1]), f"{value:+.1f}" if value else "0", FAINT, 13, "rm")
    names = [("red", RED), ("green", GREEN), ("blue", BLUE)]
    _legend(chart, area, names, "mean of the picture less that of the first second, levels of 255")


def _stages(chart: Chart, area: Area, stages: Mapping[str, float] | None) -> None:
    _name(chart, area, "stages")
    if not stages or not (total := sum(stages.values())):
        chart.text(area.at(0, 0.5), "not known of a file alone", FAINT, 15, "lm")
        return
    left, at = area.left, float(LEFT)
    for ink, (name, seconds) in zip(STAGES, stages.items(), strict=False):
        right = left + area.width * seconds / total
        chart.box(Area(left, area.top, right, area.bottom), ink)
        words = f"{name} {seconds:.1f} s"
        chart.box(Area(at, area.bottom + 16, at + 12, area.bottom + 28), ink, 2)
        chart.text((at + 18, area.bottom + 14), words, INK, 14)
        left, at = right, at + 18 + chart.text_width(words, 14) + 28


def _shown(values: np.ndarray) -> np.ndarray:
    """As many values as a line can show; of a long video each is a mean."""
    if len(values) <= MOST_POINTS:
        return values
    return np.array([part.mean() for part in np.array_split(values, MOST_POINTS)])


def _panel(chart: Chart, area: Area, seconds: float) -> None:
    chart.box(area, PANEL)
    for share, _ in _ticks(seconds):
        chart.line([area.at(share, 0), area.at(share, 1)], GRID)


def _time(chart: Chart, area: Area, seconds: float) -> None:
    for share, second in _ticks(seconds):
        x, y = area.at(share, 0)
        chart.text((x, y + 8), f"{second:g} s", FAINT, 13, "ma")


def _ticks(seconds: float) -> list[tuple[float, float]]:
    """Share of the time line and second."""
    step = round_step(max(seconds, 1 / FPS), 14)
    return [(second / seconds, round(second, 6)) for second in np.arange(0, seconds, step)]


def _name(chart: Chart, area: Area, name: str) -> None:
    chart.text((40, (area.top + area.bottom) / 2), name, FAINT, 15, "lm")


def _legend(chart: Chart, area: Area, names: list[tuple[str, str]], note: str) -> None:
    at = area.left
    for name, ink in names:
        chart.box(Area(at, area.top - 20, at + 12, area.top - 8), ink, 2)
        chart.text((at + 18, area.top - 22), name, INK, 14)
        at += 18 + chart.text_width(name, 14) + 24
    chart.text((area.right, area.top - 22), note, FAINT, 14, "ra")
