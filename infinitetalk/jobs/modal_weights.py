"""Whether a preset's weights are on the Volume, for a process that does not mount it.

Only the manifests are read, a few kilobytes. What was found stays found: prepared weights are taken
away by nobody but the deployment's owner.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from infinitetalk.errors import WeightsMissing
from infinitetalk.jobs.modal_files import VolumeFiles

MANIFEST = "manifest.json"
AGAIN_S = 15.0  # weights that were missing are not looked for more often


class WeightsOnVolume:
    """Asks the Volume, seldom.

    Args:
        copy: a local folder for the manifests.
        check: raises WeightsMissing for a folder of prepared models that lacks what is needed.
        monotonic: seconds.
    """

    def __init__(
        self,
        files: VolumeFiles,
        copy: Path,
        check: Callable[[Path], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._files = files
        self._copy = copy
        self._check = check
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._is_found = False
        self._missing: tuple[float, WeightsMissing] | None = None

    def require(self) -> None:
        """
        Raises:
            WeightsMissing: they are not there, or were not a moment ago.
            StoreBusy: the Volume cannot be reached.
        """
        with self._lock:
            if self._is_found:
                return
            if self._missing and self._monotonic() - self._missing[0] < AGAIN_S:
                raise self._missing[1]
            self._fetch_manifests()
            try:
                self._check(self._copy)
            except WeightsMissing as error:
                self._missing = (self._monotonic(), error)
                raise
            self._is_found = True

    def _fetch_manifests(self) -> None:
        found = {
            entry.path: self._copy / entry.path.lstrip("/")
            for folder in self._files.entries("/")
            if not folder.is_file
            for entry in self._files.entries(folder.path)
            if entry.is_file and entry.path.endswith(f"/{MANIFEST}")
        }
        if found:
            self._files.fetch(found)
