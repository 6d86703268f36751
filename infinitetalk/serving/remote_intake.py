"""Checking media on another machine: the front server's end, and the end where it is done.

    front server    files -> shared storage -> ask -> seconds, or the error as it was there
    the other       files -> sandbox -> job folder -> shared storage

The front server never opens a file of a stranger, and the job folder never passes through it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from anyio import CancelScope, to_thread

from infinitetalk.errors import InfiniteTalkError, Unavailable
from infinitetalk.jobfolder import MEDIA_FIELDS, JobFolder
from infinitetalk.serving.check import Answer, answer_of, seconds_of
from infinitetalk.serving.intake import Checker
from infinitetalk.spec import GenerationSpec, spec_from_json

Ask = Callable[[str, Mapping[str, Any]], Answer]
"""(job id, spec as JSON) -> what became of the files that were sent under that id. Blocks."""


class SharedFiles(Protocol):
    """Where both ends find the files of a request; blob stores of a fleet have this."""

    def send(self, job_id: str, files: Mapping[str, Path]) -> None: ...

    def fetch(self, job_id: str, folder: Path) -> Sequence[Path]: ...

    def drop(self, job_id: str) -> None: ...

    def adopt(self, staged: JobFolder, job_id: str) -> None: ...


class RemoteChecker:
    """Has media checked elsewhere."""

    def __init__(self, files: SharedFiles, ask: Ask) -> None:
        self._files = files
        self._ask = ask

    def start(self) -> None:
        """Nothing is to be started here."""

    def close(self) -> None:
        """Nor to be ended."""

    async def normalise(
        self, folder: JobFolder, spec: GenerationSpec, scene: Path, voices: Sequence[Path]
    ) -> float:
        """Make the job folder of the id that the staging folder is called by, in shared storage.

        Raises:
            InvalidInput, StorageFull, NotReady: as it was there.
            StoreBusy: the other machine cannot be reached.
        """
        job_id = folder.root.parent.name
        sent = dict(zip(MEDIA_FIELDS, (scene, *voices), strict=False))
        try:
            await to_thread.run_sync(self._files.send, job_id, sent)
            return seconds_of(await to_thread.run_sync(self._ask, job_id, spec.to_json()))
        finally:
            with CancelScope(shield=True), suppress(Unavailable):  # retention deletes it, too
                await to_thread.run_sync(self._files.drop, job_id)


async def check_here(
    job_id: str, spec: Mapping[str, Any], files: SharedFiles, checker: Checker, folder: Path
) -> Answer:
    """The other end: what `Ask` returns.

    Args:
        folder: an empty one, for working in.
    """
    staged = JobFolder(folder / "job")
    try:
        found = await to_thread.run_sync(files.fetch, job_id, folder / "sent")
        sent = {path.name: path for path in found}
        scene, *voices = [sent[name] for name in MEDIA_FIELDS if name in sent]
        seconds = await checker.normalise(staged, spec_from_json(spec), scene, voices)
        await to_thread.run_sync(files.adopt, staged, job_id)
    except InfiniteTalkError as error:
        return answer_of(error)
    return {"seconds": seconds}
