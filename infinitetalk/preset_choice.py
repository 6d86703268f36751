"""Which preset a deployment runs when the setting says `auto`. Needs no torch itself."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from infinitetalk.config import Settings
from infinitetalk.errors import WeightsMissing
from infinitetalk.weights.selection import Wish, require_weights

WhyNotOnGpu = Callable[[str, Settings], str | None]
"""Why no GPU of this machine runs a preset, None when one does; `runner.why_not_on_gpu` knows."""

BEST, FALLBACK = "standard", "demo"


@dataclass(frozen=True, slots=True)
class PresetChoice:
    """A preset, and why it is no better one."""

    preset: str
    reason: str | None = None


def choose_preset(settings: Settings, why_not_on_gpu: WhyNotOnGpu) -> PresetChoice:
    """`standard` where its prepared weights and a GPU that holds them are, else `demo`."""
    if settings.preset != "auto":
        return PresetChoice(settings.preset)
    reason = _why_not_prepared(settings) or why_not_on_gpu(BEST, settings)
    return PresetChoice(BEST) if reason is None else PresetChoice(FALLBACK, reason)


def ask_preset(settings: Settings) -> PresetChoice:
    """The same, the GPU being looked at by a process of its own that loads torch for it."""
    if settings.preset != "auto" or _why_not_prepared(settings):
        return choose_preset(settings, lambda *_: None)
    command = [sys.executable, "-m", "infinitetalk.cli", "doctor", "--preset"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return PresetChoice(**json.loads(answer))


def _why_not_prepared(settings: Settings) -> str | None:
    try:
        require_weights(BEST, settings)
    except WeightsMissing:
        wish = Wish.of(settings)
        there = f"there are no prepared weights of the preset {BEST}{wish.words}"
        return f"{there}; `{wish.command(BEST)}` makes them"
    return None
