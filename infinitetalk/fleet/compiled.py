"""Compiled kernels of a fleet: made once by the acceptance run, fetched by every new container.

On the Volume `<kind of GPU and versions>.tar.gz`. Serving containers only read: many of them that
wrote what they compiled would overwrite one another.
"""

import logging
from pathlib import Path

import modal
import torch

from infinitetalk.compile_cache import pack, unpack, use_cache
from infinitetalk.errors import Unavailable
from infinitetalk.jobs.modal_files import VolumeFiles

log = logging.getLogger(__name__)


def restore_compiled(volume: modal.Volume, home: Path, device: torch.device) -> bool:
    """Fetch what was compiled for this device, if anybody has; to be called before loading."""
    folder = use_cache(home, device)
    archive = _archive(folder)
    try:
        VolumeFiles(volume).fetch({f"/{archive.name}": archive})
    except FileNotFoundError:
        log.warning("nothing was compiled for this machine yet; `accept` does it (%s)", folder.name)
        return False
    except Unavailable as error:  # then it is compiled here
        log.warning("the compiled kernels could not be fetched: %s", error.message)
        return False
    unpack(archive, folder)
    archive.unlink()
    return True


def save_compiled(volume: modal.Volume, home: Path, device: torch.device) -> tuple[str, int]:
    """Put what was compiled here on the Volume; its name there and how many files it holds.

    Raises:
        StoreBusy: Modal cannot be reached.
    """
    folder = use_cache(home, device)
    archive = _archive(folder)
    files = pack(folder, archive)
    VolumeFiles(volume).put({f"/{archive.name}": archive})
    archive.unlink()
    return archive.name, files


def _archive(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.tar.gz")
