"""What each engine process says of itself, for `/v1/info` and the metrics."""

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from infinitetalk.errors import (
    AttentionUnavailable,
    CompilerUnavailable,
    DeviceTooSmall,
    DeviceUnavailable,
    InvalidSetting,
    NotReady,
    WeightsCorrupt,
    WeightsMissing,
)
from infinitetalk.jobs.database import Database

CANNOT_START = frozenset(
    kind.code
    for kind in (
        *(DeviceUnavailable, DeviceTooSmall, AttentionUnavailable, CompilerUnavailable),
        *(InvalidSetting, WeightsMissing, WeightsCorrupt),
    )
)
"""What an engine dies of again and again, until somebody changes the deployment."""


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


class EngineBoard(Protocol):
    """Where engines post their state."""

    def post(self, engine: Engine) -> None:
        """Replace what the engine of this slot said before."""

    def all(self) -> list[Engine]:
        """What every engine said last."""


class SqliteEngineBoard:
    """The board of one host: it remembers every slot that was ever used there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def post(self, engine: Engine) -> None:
        with self._database.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO engines (slot, record) VALUES (?, ?)",
                (engine.slot, json.dumps(asdict(engine))),
            )

    def all(self) -> list[Engine]:
        rows = self._database.read("SELECT record FROM engines ORDER BY slot")
        records = [json.loads(row["record"]) for row in rows]
        return [engine_of(fields) for fields in records]


class Loaded(Protocol):
    """What a loaded model tells of itself."""

    @property
    def resolutions(self) -> tuple[str, ...]: ...
    @property
    def speakers(self) -> int: ...
    @property
    def attention(self) -> str: ...
    @property
    def gpu(self) -> str | None: ...


def ready(engine: Engine, model: Loaded) -> Engine:
    """An engine that takes jobs, with what it can do."""
    return replace(
        engine,
        state=EngineState.READY,
        device=model.gpu or "cpu",
        attention=model.attention,
        resolutions=model.resolutions,
        speakers=model.speakers,
    )


def require_engine(board: EngineBoard) -> None:
    """Refuse a job that no engine could ever take.

    Raises:
        NotReady: every engine that was heard of cannot start.
    """
    engines = board.all()
    if engines and all(engine.error in CANNOT_START for engine in engines):
        raise NotReady(
            f"No engine can start here ({engines[0].error}); see /v1/info.", retry_after_s=60.0
        )


def engine_of(fields: dict[str, Any]) -> Engine:
    """The inverse of `asdict` for an engine."""
    state, resolutions = EngineState(fields["state"]), tuple(fields.get("resolutions", ()))
    return Engine(**{**fields, "state": state, "resolutions": resolutions})
