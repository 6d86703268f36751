"""What the users of one run share."""

from argparse import Namespace
from dataclasses import dataclass

from loadtest.budget import Budget
from loadtest.journeys import Journey, append_journey


@dataclass(slots=True)
class Load:
    """Options, budget, files, and a count of how it goes."""

    options: Namespace
    budget: Budget
    portrait: bytes
    speech: bytes
    started: int = 0
    ended: int = 0
    failed: int = 0
    is_over: bool = False

    def note(self, journey: Journey) -> None:
        self.ended += 1
        self.failed += bool(journey.failure)
        if self.options.journeys is not None:
            append_journey(self.options.journeys, journey)

    @property
    def is_good(self) -> bool:
        """Something was rendered, and no more failed than may."""
        return self.ended > 0 and self.failed <= self.options.error_budget * self.ended
