"""When a call is made again: after failures that may pass, with growing pauses, not for ever."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from infinitetalk.client.answers import PASSING
from infinitetalk.errors import InfiniteTalkError

T = TypeVar("T")
OnWait = Callable[[InfiniteTalkError, float], None]
"""Told what failed and after how many seconds it is tried again."""


def say_nothing(error: InfiniteTalkError, seconds: float) -> None:
    """The `OnWait` of those who do not want to know."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait between tries, in seconds, and who is told.

    What the server asks for (Retry-After) is obeyed; without that a pause is twice the last one,
    less up to a half of it by chance, so that many clients do not come back in step.
    """

    total_s: float = 120.0  # all pauses of one call together
    first_s: float = 0.5
    longest_s: float = 15.0
    on_wait: OnWait = say_nothing
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[float, float], float] = random.uniform

    def insist(self, attempt: Callable[[], T]) -> T:
        """What `attempt` gives in the end.

        Raises:
            InfiniteTalkError: its last one, when it cannot pass or `total_s` is used up.
        """
        waited_s, pause_s = 0.0, self.first_s
        while True:
            try:
                return attempt()
            except InfiniteTalkError as error:
                wait_s = error.retry_after_s or self.chance(pause_s / 2, pause_s)
                waited_s += wait_s
                if not may_pass(error) or waited_s > self.total_s:
                    raise
                self.on_wait(error, wait_s)
            self.sleep(wait_s)
            pause_s = min(2 * pause_s, self.longest_s)


def may_pass(error: InfiniteTalkError) -> bool:
    """Whether the same call can succeed later: refused for now or never arrived, not answered."""
    return error.retryable and error.status in PASSING
