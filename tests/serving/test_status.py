"""Times that a client is told: UTC whatever the host's zone is, and in their order."""

import time
from collections.abc import Iterator

import pytest

from infinitetalk.jobs.model import Usage, start
from infinitetalk.progress import Stage
from infinitetalk.serving.status import describe
from tests.jobs.records import a_job

SUMMER_ENDS = 1_761_440_400.0  # 2025-10-26T01:00:00Z: 3:00 becomes 2:00 in Berlin
LEAP_SECOND = 1_483_228_800.0  # 2017-01-01T00:00:00Z, after 23:59:60


@pytest.fixture(params=["Europe/Berlin", "America/New_York", "Pacific/Chatham", "UTC"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The host is somewhere."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (SUMMER_ENDS - 1, "2025-10-26T00:59:59.000"),
        (SUMMER_ENDS, "2025-10-26T01:00:00.000"),
        (SUMMER_ENDS + 3600, "2025-10-26T02:00:00.000"),
        (LEAP_SECOND - 0.5, "2016-12-31T23:59:59.500"),
        (LEAP_SECOND, "2017-01-01T00:00:00.000"),
    ],
)
@pytest.mark.usefixtures("zone")
def test_times_are_utc(at: float, said: str) -> None:
    assert describe(a_job(created_at=at))["created_at"] == said


@pytest.mark.usefixtures("zone")
def test_an_hour_that_comes_twice_is_told_apart() -> None:
    times = [SUMMER_ENDS + minutes * 60 for minutes in range(-120, 121, 30)]
    said = [describe(start(a_job(), "0", now=at))["executed_at"] for at in times]
    assert said == sorted(set(said))


def test_the_time_in_each_stage_is_told() -> None:
    usage = Usage(stages={Stage.ENCODING: 1.5, Stage.DENOISING: 2.34567})
    assert describe(a_job(usage=usage))["stages"] == {"encoding": 1.5, "denoising": 2.346}
