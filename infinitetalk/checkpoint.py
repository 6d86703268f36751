"""Where a stopped job continues: the next window and the frames it starts from.

One safetensors file: the motion frames, and in its header what they belong to. Being one file it
cannot be torn between two states.

Axes: f frames, h w size.
"""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from infinitetalk.errors import StorageFull
from infinitetalk.media.publish import publishing

FORMAT = "1"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a checkpoint belongs to; of anything else it is worth nothing."""

    spec: str  # fingerprint
    weights: str  # fingerprint
    engine: str  # version
    label: str = ""  # what is drawn into the frames


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after `window` finished windows."""

    window: int  # the next one
    motion: Tensor  # float32 3 f h w


def save_checkpoint(path: Path, checkpoint: Checkpoint, identity: Identity) -> None:
    """Replace the checkpoint at `path`.

    Raises:
        StorageFull: the disk has no room; the checkpoint before is untouched.
    """
    header = {"format": FORMAT, "window": str(checkpoint.window), **asdict(identity)}
    with publishing(path) as part:
        try:
            save_file({"motion": checkpoint.motion.contiguous()}, part, metadata=header)
        except SafetensorError as error:  # the only thing that fails here is the disk
            raise StorageFull("The disk has no room for the checkpoint.") from error


def load_checkpoint(path: Path, identity: Identity) -> Checkpoint | None:
    """The checkpoint at `path`; None, with the reason logged, when it is not of this very job."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            motion = file.get_tensor("motion")
    except (OSError, SafetensorError):
        return _refuse("unreadable")
    if header.get("format") != FORMAT:
        return _refuse("of another format")
    for name, value in asdict(identity).items():
        if header.get(name) != value:
            return _refuse(f"of another {name}")
    return Checkpoint(int(header["window"]), motion)


def _refuse(reason: str) -> Checkpoint | None:
    log.warning("The checkpoint is %s: the job starts again at its first window.", reason)
    return None
