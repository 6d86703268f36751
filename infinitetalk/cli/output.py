"""Where a video goes: refused before anything is rendered for it, when it could not be written."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from infinitetalk.errors import InvalidField


def check_output(output: Path, inputs: Sequence[Path]) -> None:
    """Make the folder of a video.

    Raises:
        InvalidField: the name is not a video's, is taken by an input, or cannot be written.
    """
    if output.suffix.lower() != ".mp4":
        raise InvalidField(f"--output must end in .mp4, not {output.name}.", field="output")
    if output.is_dir():
        raise InvalidField(f"--output {output} is a folder.", field="output")
    if any(output.exists() and path.exists() and output.samefile(path) for path in inputs):
        raise InvalidField(f"--output {output} is one of the inputs.", field="output")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise InvalidField(f"{output.parent} cannot be written.", field="output") from error
