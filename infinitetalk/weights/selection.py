"""Which prepared models the settings leave to choose from, and the command that makes one.

Of two models of one preset, precision and number of speakers, the one whose folder has the usual
name `<preset>-<precision>-<speakers>` is taken; another is loaded by moving it below a folder of
its own and setting INFINITETALK_WEIGHTS to that.

Whether one of them fits into the device's memory is not asked here. Needs no torch.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from infinitetalk.config import Settings
from infinitetalk.errors import InvalidField, WeightsMissing
from infinitetalk.spec import PRESETS
from infinitetalk.weights.prepared import BF16, FP8, Manifest, prepared_folders, usual_name

_PREPARED_AS = {"float32": BF16, "bfloat16": BF16, "fp8": FP8}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the settings say of the weights; None leaves the choice."""

    precision: str | None  # of the folder
    speakers: int | None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        speakers = None if settings.speakers == "auto" else int(settings.speakers)
        return cls(_PREPARED_AS.get(settings.precision), speakers)

    def admits(self, manifest: Manifest) -> bool:
        """Whether a prepared model is one of those."""
        return self.precision in (None, manifest.precision) and (
            self.speakers in (None, manifest.speakers)
        )

    def command(self, preset: str) -> str:
        """What to run so that there is one."""
        command = f"infinitetalk weights prepare --preset {preset}"
        command += f" --precision {self.precision}" if self.precision else ""
        return command + (f" --speakers {self.speakers}" if self.speakers else "")

    @property
    def words(self) -> str:
        """The wish as the end of a sentence."""
        precision = f" in {self.precision}" if self.precision else ""
        return precision + {None: "", 1: " for one speaker", 2: " for two speakers"}[self.speakers]


def find_weights(preset: str, settings: Settings) -> dict[Path, Manifest]:
    """The prepared folders of a preset among which the settings leave the choice, best first.

    Those for one speaker come before those for two, bf16 before fp8, and the usual name of a
    folder before any other.

    Raises:
        WeightsMissing: nobody has prepared one; the message has the command that does.
    """
    wish = Wish.of(settings)
    found = {
        folder: manifest
        for folder, manifest in prepared_folders(settings.weights_folder).items()
        if manifest.preset == preset and wish.admits(manifest)
    }
    if not found:
        raise WeightsMissing(
            f"The weights of the preset {preset} are not prepared{wish.words}. "
            f"Run `{wish.command(preset)}`; demo and tiny need no preparing."
        )
    return dict(sorted(found.items(), key=lambda item: _rank(*item)))


def require_weights(preset: str, settings: Settings, voices: int = 1) -> None:
    """Refuse a preset that could not be loaded or tell the voices apart, without loading anything.

    Raises:
        WeightsMissing: nobody has prepared it.
        InvalidField: what the settings leave is for fewer voices.
    """
    if PRESETS[preset].is_bundled:
        return
    found = find_weights(preset, settings)
    if all(manifest.speakers < voices for manifest in found.values()):
        raise one_speaker_only(preset, settings)


def settings_for(voices: int, settings: Settings) -> Settings:
    """Settings that leave only weights for so many voices, unless they name a number already."""
    if voices == 2 and settings.speakers == "auto":
        return replace(settings, speakers="2")
    return settings


def one_speaker_only(preset: str, settings: Settings) -> InvalidField:
    """The refusal of a second voice by weights for one, and what helps."""
    pair = replace(settings, speakers="2")
    ways = "set INFINITETALK_SPEAKERS=2 and start again"
    try:
        require_weights(preset, pair)
    except WeightsMissing:
        ways = f"run `{Wish.of(pair).command(preset)}`, {ways}"
    return InvalidField(f"The weights here are for one speaker. For two, {ways}.", field="audio_2")


def _rank(folder: Path, manifest: Manifest) -> tuple[int, bool, bool]:
    """Less is better."""
    usual = usual_name(manifest.preset, manifest.precision, manifest.speakers)
    return manifest.speakers, manifest.precision == FP8, folder.name != usual
