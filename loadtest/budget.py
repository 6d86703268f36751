"""What a load test may cost: whether one more job fits before the others have sent their bill."""

import ipaddress
from urllib.parse import urlsplit

from infinitetalk.errors import InvalidField


class Budget:
    """Jobs are opened before they are submitted, and closed with what they have cost.

    An open job is expected to cost what the dearest one has; until there is a first one, a single
    job is let through to find out.

    Args:
        max_usd: None on a machine of ours, where nothing is counted.
    """

    def __init__(self, max_usd: float | None) -> None:
        self.spent_usd = 0.0
        self._max_usd = max_usd
        self._dearest_usd: float | None = None
        self._open = 0

    def try_open(self) -> bool:
        """Make room for a job, if there is any."""
        fits = self._fits()
        self._open += fits
        return fits

    def close(self, cost_usd: float) -> None:
        """A job has ended."""
        self._open -= 1
        self.spent_usd += cost_usd
        self._dearest_usd = max(cost_usd, self._dearest_usd or 0.0)

    def close_refused(self) -> None:
        """A job was not accepted, so it costs nothing and says nothing of the others."""
        self._open -= 1

    def close_unknown(self) -> None:
        """What became of a job cannot be learnt: from here on nothing is affordable."""
        self._open -= 1
        self.spent_usd = float("inf")

    @property
    def is_used_up(self) -> bool:
        """Whether no job will ever fit again."""
        return self._open == 0 and not self._fits()

    def _fits(self) -> bool:
        if self._max_usd is None:
            return True
        if self._dearest_usd is None:
            return self._open == 0 and self.spent_usd < self._max_usd
        return self.spent_usd + (self._open + 1) * self._dearest_usd <= self._max_usd


def check_affordable(host: str, max_usd: float | None) -> None:
    """Refuse to put load on somebody's bill without a limit.

    Raises:
        InvalidField: the host is not this machine and there is no limit.
    """
    if max_usd is None and not is_local(host):
        raise InvalidField(
            "Jobs on another machine cost money: --max-cost USD is needed.", field="max_cost"
        )


def is_local(host: str) -> bool:
    """Whether a URL leads to this machine by its very name."""
    name = urlsplit(host).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
