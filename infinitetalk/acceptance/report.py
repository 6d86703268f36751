"""What an acceptance run found: verdicts, figures and tables, and the same as JSON.

Data only: nothing here measures or judges, and none of it needs torch.
"""

import json
from dataclasses import asdict, dataclass

from infinitetalk.errors import InvalidInput

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a step went as it should, and what says so."""

    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict on a step, by its name."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A measurement. Names are stable; a dot parts a whole from its share: `stage.denoising`."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Trial:
    """An attention backend at the model's own shape; without figures where it did not run."""

    backend: str
    seconds: float | None = None
    relative_error: float | None = None  # norm of the difference to float32 over its norm
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One clip of a sweep; without a video where it could not be rendered."""

    steps: int
    audio_guidance: float
    shift: float
    seconds: float | None = None
    video: str | None = None  # name of its file
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """One acceptance run."""

    date: str  # ISO 8601, UTC
    engine: str  # version
    torch: str  # version
    device: str
    preset: str
    resolution: str
    weights: str  # name of the prepared folder
    fingerprint: str  # of the weights
    checks: tuple[Check, ...]
    figures: tuple[Figure, ...] = ()
    attention: tuple[Trial, ...] = ()
    sweep: tuple[Cell, ...] = ()
    format: int = FORMAT

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)


def to_json(report: Report) -> str:
    return json.dumps(asdict(report), indent=1, allow_nan=False)


def from_json(text: str) -> Report:
    """The inverse of `to_json`.

    Raises:
        InvalidInput: the text is no report of this version.
    """
    try:
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise InvalidInput("The report was written by another version.")
        kinds = {"checks": Check, "figures": Figure, "attention": Trial, "sweep": Cell}
        tables = {name: tuple(kind(**row) for row in values[name]) for name, kind in kinds.items()}
        return Report(**{**values, **tables})
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput("The text is no report of an acceptance run.") from error
