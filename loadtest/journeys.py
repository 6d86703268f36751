"""What every user of a load test went through, one line each, and how long it took them."""

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

PERCENTILES = (50, 90, 95, 99, 100)


@dataclass(frozen=True, slots=True)
class Journey:
    """From a submit to the video, verified; None for what was not reached."""

    started_at: float  # seconds since 1970, UTC
    total_s: float
    submit_s: float | None  # until the job was accepted
    wait_s: float | None  # in the queue, as the server says
    cost_usd: float
    is_first: bool  # of its run: it may have waited for a machine to start
    failure: str = ""

    @property
    def ended_at(self) -> float:
        return self.started_at + self.total_s


def append_journey(path: Path, journey: Journey) -> None:
    """Add a line."""
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [item.name for item in fields(Journey)])
        if is_new:
            writer.writeheader()
        writer.writerow(asdict(journey))


def read_journeys(path: Path) -> list[Journey]:
    """All lines; none where there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [_journey(cells) for cells in csv.DictReader(file)]


def summary(journeys: Sequence[Journey]) -> str:
    """Percentiles of submit, wait and end-to-end; the first journey and failures apart."""
    done = [journey for journey in journeys if not journey.failure]
    later = [journey for journey in done if not journey.is_first]
    figures = {
        "submit": [journey.submit_s for journey in later],
        "wait": [journey.wait_s for journey in later],
        "end-to-end": [journey.total_s for journey in later],
    }
    heads = "".join(f"{'max' if percent == 100 else f'p{percent}':>9}" for percent in PERCENTILES)
    lines = [f"{'seconds':<12}{heads}"]
    for name, values in figures.items():
        lines.append(f"{name:<12}" + _percentiles([value for value in values if value is not None]))
    for first in (journey for journey in done if journey.is_first):
        lines.append(f"The first took {first.total_s:.2f} s and is not counted above.")
    cost_usd = sum(journey.cost_usd for journey in journeys)
    lines.append(f"{len(done)} videos, {len(journeys) - len(done)} failures, ${cost_usd:.2f}.")
    return "\n".join(lines)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _percentiles(values: Sequence[float]) -> str:
    if not values:
        return "        -" * len(PERCENTILES)
    return "".join(f"{percentile(values, percent):9.3f}" for percent in PERCENTILES)


def _journey(cells: dict[str, str]) -> Journey:
    return Journey(
        started_at=float(cells["started_at"]),
        total_s=float(cells["total_s"]),
        submit_s=float(cells["submit_s"]) if cells["submit_s"] else None,
        wait_s=float(cells["wait_s"]) if cells["wait_s"] else None,
        cost_usd=float(cells["cost_usd"]),
        is_first=cells["is_first"] == "True",
        failure=cells["failure"],
    )
