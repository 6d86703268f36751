"""Where the prepared weights of a preset are.

    <weights folder>/<name>/manifest.json       any name; the manifest says which preset it is for

Those of `tiny` and `demo` are written on first use; the others are prepared beforehand.
"""

from pathlib import Path

from infinitetalk.errors import WeightsMissing
from infinitetalk.spec import PRESETS
from infinitetalk.weights.prepared import MANIFEST, find_weights
from infinitetalk.weights.synthetic import folder_name, write_synthetic


def locate_weights(preset: str, weights: Path) -> Path:
    """The prepared folder of a preset; that of a bundled one is written if need be.

    Raises:
        WeightsMissing: nobody has prepared it, or the folder cannot be written.
    """
    if not PRESETS[preset].is_bundled:
        return find_weights(preset, weights)
    folder = weights / folder_name(preset)
    if not (folder / MANIFEST).exists():
        try:
            write_synthetic(preset, folder)
        except OSError as error:
            raise WeightsMissing(
                f"The weights of {preset} cannot be written to {weights}."
            ) from error
    return folder
