"""Which prepared models the settings leave to choose from, and the command that makes one.

Whether one of them fits into the device's memory is not asked here. Needs no torch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from infinitetalk.config import Settings
from infinitetalk.errors import WeightsMissing
from infinitetalk.spec import PRESETS
from infinitetalk.weights.prepared import BF16, FP8, Manifest, prepared_folders

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

    Those for one speaker come before those for two, and bf16 before fp8.

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
    return dict(
        sorted(found.items(), key=lambda item: (item[1].speakers, item[1].precision == FP8))
    )


def require_weights(preset: str, settings: Settings) -> None:
    """Refuse a preset that could not be loaded, without loading anything.

    Raises:
        WeightsMissing: nobody has prepared it.
    """
    if not PRESETS[preset].is_bundled:
        find_weights(preset, settings)
