"""What each engine process says of itself, for `/v1/info` and the metrics."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from infinitetalk.jobs.database import Database


class EngineState(StrEnum):
    """How an engine is."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine process, as it was last heard of."""

    slot: str
    state: EngineState
    pid: int
    since: float  # seconds since 1970, UTC
    preset: str
    device: str | None = None  # the name of the GPU, or cpu
    attention: str | None = None
    resolutions: tuple[str, ...] = ()  # that its memory holds; none while it is not known
    speakers: int | None = None  # that its weights can tell apart
    error: str | None = None  # the code of what it died of


class EngineBoard:
    """Where the engines of one host post their state."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def post(self, engine: Engine) -> None:
        """Replace what the engine of this slot said before."""
        with self._database.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO engines (slot, record) VALUES (?, ?)",
                (engine.slot, json.dumps(asdict(engine))),
            )

    def all(self) -> list[Engine]:
        """Every slot that was ever used here."""
        rows = self._database.read("SELECT record FROM engines ORDER BY slot")
        records = [json.loads(row["record"]) for row in rows]
        return [_engine(fields) for fields in records]


def _engine(fields: dict[str, Any]) -> Engine:
    state, resolutions = EngineState(fields["state"]), tuple(fields.get("resolutions", ()))
    return Engine(**{**fields, "state": state, "resolutions": resolutions})
