"""What is asked of a fake hub, and what is to go wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Fault:
    """What goes wrong with the next requests whose address contains `where`."""

    where: str
    times: int = 1
    method: str | None = None
    status: int | None = None  # answered instead
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # bytes of the answer; then the connection breaks
    hold_after: int | None = None  # bytes of the answer; then nothing comes any more
    end_after: int | None = None  # bytes of the answer, which says that this is all
    flip_at: int | None = None  # byte of the file that arrives altered
    ignores_range: bool = False

    @property
    def spoils_content(self) -> bool:
        return self.status is None


@dataclass
class Asked:
    """A request, and what was sent."""

    method: str
    path: str
    range: str | None
    token: str | None
    status: int = 0
    sent: int = 0  # bytes of file content
