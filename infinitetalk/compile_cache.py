"""Where compiled kernels are kept, so that the next process does not compile them again.

    HOME/compiled/<GPU>-<torch>-<engine>/{inductor,triton}

One folder for everything that makes kernels differ: a volume may be shared by machines of several
kinds. The compilers check what they read, so an old folder is useless and never wrong. What was
measured to choose between kernels can be kept beside them.
"""

import logging
import os
import re
from collections.abc import MutableMapping
from pathlib import Path

from infinitetalk import __version__

log = logging.getLogger(__name__)

FOLDERS = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}


def kernels_folder(home: Path, gpu: str, torch: str) -> Path:
    """The folder for a GPU of this name and a version of torch."""
    name = "-".join((gpu, torch, __version__))
    return home / "compiled" / re.sub(r"[^A-Za-z0-9.+-]+", "_", name)


def keep_kernels(folder: Path, environment: MutableMapping[str, str] = os.environ) -> None:
    """Have the compilers of this process keep what they make in `folder`; before the first use.

    Where that cannot be written they keep it where they would anyway.
    """
    try:
        for name in FOLDERS.values():
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("compiled kernels are not kept: %s", error.strerror)
        return
    for variable, name in FOLDERS.items():
        environment[variable] = str(folder / name)
