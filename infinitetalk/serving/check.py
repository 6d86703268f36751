"""One check of media as it is told from process to process: what to do, with how much, how it went.

JSON on both ways. What comes back was written by a process that read untrusted files, and is
believed as far as it can be tested.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from infinitetalk.config import Settings
from infinitetalk.errors import InfiniteTalkError
from infinitetalk.jobfolder import JobFolder
from infinitetalk.spec import GenerationSpec, spec_from_json

Answer = Mapping[str, object]
"""`seconds` of the video; or `code`, `message`, `field` of an error; or how else it `ended`."""

TIMED_OUT: Answer = {"ended": "timeout"}
CRASHED: Answer = {"ended": "crash"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may use."""

    wall_s: float
    cpu_s: int  # of each process
    memory_bytes: int  # address space of each process
    file_bytes: int  # the largest file that is written
    open_files: int


@dataclass(frozen=True, slots=True)
class Check:
    """The media of one job, to be checked and put into its folder. Paths are absolute."""

    folder: JobFolder
    spec: GenerationSpec
    scene: Path
    voices: tuple[Path, ...]
    max_audio_seconds: float
    max_image_megapixels: float
    max_video_megapixels: float
    limits: Limits

    @property
    def settings(self) -> Settings:
        """What media may be. No other setting travels: some are secret."""
        return Settings(
            max_audio_seconds=self.max_audio_seconds,
            max_image_megapixels=self.max_image_megapixels,
            max_video_megapixels=self.max_video_megapixels,
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        values = json.loads(text)
        read = {
            "folder": JobFolder(Path(values["folder"]["root"])),
            "spec": spec_from_json(values["spec"]),
            "scene": Path(values["scene"]),
            "voices": tuple(Path(voice) for voice in values["voices"]),
            "limits": Limits(**values["limits"]),
        }
        return cls(**values | read)


def read_answer(text: bytes) -> Answer:
    """What a worker wrote; anything but an answer is taken for a crash."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return CRASHED
    match answer:
        case {"seconds": float() as seconds} if math.isfinite(seconds):
            return {"seconds": seconds}
        case {"code": str() as code, "message": str(), "field": str() | None} if code in KINDS:
            return answer
        case {"ended": str()}:
            return answer
    return CRASHED


def answer_of(error: InfiniteTalkError) -> Answer:
    """An error as an answer."""
    return {"code": error.code, "message": error.message, "field": error.field}


def seconds_of(answer: Answer) -> float:
    """The seconds of an answer, or the error that it tells of, raised."""
    match answer:
        case {"seconds": float() as seconds}:
            return seconds
        case {"code": str() as code, "message": str() as message, "field": str() | None as field}:
            raise KINDS[code](message, field=field)
    raise TypeError(f"no answer: {sorted(answer)}")


def _kinds(kind: type[InfiniteTalkError]) -> dict[str, type[InfiniteTalkError]]:
    below = [_kinds(child) for child in kind.__subclasses__()]
    return {code: kind for kinds in below for code, kind in kinds.items()} | {kind.code: kind}


KINDS: Mapping[str, type[InfiniteTalkError]] = _kinds(InfiniteTalkError)
"""Every error of the tree by its code."""
