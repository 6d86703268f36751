"""Where the prepared weights of a preset are.

    <weights folder>/<name>/manifest.json       any name; the manifest says which preset it is for

`tiny` and `demo` are written on first use; the others are prepared beforehand.
"""

from pathlib import Path

from infinitetalk.errors import WeightsMissing
from infinitetalk.weights.prepared import MANIFEST, prepared_folders
from infinitetalk.weights.synthetic import SIZES, folder_name, write_synthetic


def locate_weights(preset: str, weights: Path) -> Path:
    """The prepared folder of a preset; that of a synthetic one is written if need be.

    Raises:
        WeightsMissing: nobody has prepared it.
    """
    if preset in SIZES:
        folder = weights / folder_name(preset)
        if not (folder / MANIFEST).exists():
            write_synthetic(preset, folder)
        return folder
    for folder, manifest in prepared_folders(weights).items():
        if manifest.preset == preset:
            return folder
    raise WeightsMissing(
        f"The weights of the preset {preset} are not prepared; only demo and tiny need none."
    )
