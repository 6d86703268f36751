"""Where compiled kernels are kept: a folder for every kind of GPU and version of the software.

What one machine compiled serves every other of its kind, so the folder can be packed, moved and
unpacked. Nothing is compiled here.
"""

import logging
import os
import re
import tarfile
from pathlib import Path

import torch

from infinitetalk import __version__

log = logging.getLogger(__name__)

VARIABLES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}


def cache_name(device: torch.device) -> str:
    """The kind of machine as the name of a folder: GPU, torch, engine."""
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    else:
        kind = f"cpu {torch.backends.cpu.get_cpu_capability()}"
    versions = f"torch {torch.__version__} engine {__version__}"
    return re.sub(r"[^a-z0-9.]+", "-", f"{kind} {versions}".lower()).strip("-")


def cache_folder(home: Path, device: torch.device) -> Path:
    """Where what is compiled for this device is kept; nothing is made."""
    return home / "compiled" / cache_name(device)


def use_cache(home: Path, device: torch.device) -> Path:
    """Have the compilers keep what they make for this device below `home`; the folder.

    To be called before anything is compiled. A place that the user chose is kept; where nothing
    can be written, the compilers keep it where they would anyway.
    """
    folder = cache_folder(home, device)
    try:
        for name in VARIABLES.values():
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("compiled kernels are not kept: %s", error.strerror)
        return folder
    for variable, name in VARIABLES.items():
        os.environ.setdefault(variable, str(folder / name))
    return folder


def pack(folder: Path, archive: Path) -> int:
    """Write a cache folder as one file; how many files are in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for path in files:
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False)
    return len(files)


def unpack(archive: Path, folder: Path) -> None:
    """The inverse of `pack`; what is in the folder already is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
