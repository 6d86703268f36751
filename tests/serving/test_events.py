"""Streams of a job's status: when something is told, when a stream ends, how many there may be."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from infinitetalk.serving.events import CROWDED_RETRY_MS, RETRY_MS, events
from infinitetalk.serving.watchers import Watchers

PENDING, RUNNING, DONE = ({"status": name} for name in ("pending", "in_progress", "completed"))
FIRST = f"retry: {RETRY_MS}\n\n"


class Job:
    """Its status at one look after the other; the last one stays."""

    def __init__(self, *statuses: dict[str, Any]) -> None:
        self._statuses = list(statuses)
        self.looks = 0
        self.is_draining = False

    async def look(self) -> dict[str, Any]:
        self.looks += 1
        return self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]

    def events(self, watchers: Watchers | None = None, **options: Any) -> AsyncIterator[str]:
        options = {"look_s": 0.0, **options}
        return events(self.look, lambda: self.is_draining, watchers or Watchers(9), **options)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def within() -> Any:
        async with asyncio.timeout(30):
            return await work

    return asyncio.run(within())


async def all_of(stream: AsyncIterator[str]) -> list[str]:
    return [text async for text in stream]


def event(status: dict[str, Any]) -> str:
    return f"event: status\ndata: {json.dumps(status)}\n\n"


def test_every_change_is_told_once_until_the_job_has_ended() -> None:
    job = Job(PENDING, PENDING, RUNNING, RUNNING, RUNNING, DONE)
    assert run(all_of(job.events())) == [FIRST, event(PENDING), event(RUNNING), event(DONE)]
    assert job.looks == 6


@pytest.mark.parametrize("name", ["completed", "failed", "canceled"])
def test_a_job_that_has_ended_is_told_of_and_no_more(name: str) -> None:
    assert run(all_of(Job({"status": name}).events())) == [FIRST, event({"status": name})]


def test_an_old_stream_ends_although_the_job_goes_on() -> None:
    assert run(all_of(Job(RUNNING).events(stream_s=-1.0))) == [FIRST, event(RUNNING)]


def test_a_stream_ends_when_the_service_does() -> None:
    job = Job(RUNNING)
    job.is_draining = True
    assert run(all_of(job.events())) == [FIRST, event(RUNNING)]


def test_where_too_many_watch_the_status_is_told_once_and_the_next_look_is_later() -> None:
    job, watchers = Job(RUNNING), Watchers(1)
    with watchers.place():
        told = run(all_of(job.events(watchers)))
    assert "".join(told) == f"retry: {CROWDED_RETRY_MS}\n\n{event(RUNNING)}"
    assert (job.looks, CROWDED_RETRY_MS > RETRY_MS) == (1, True)


def test_the_place_of_a_stream_that_ended_is_free() -> None:
    watchers = Watchers(1)
    for _ in range(2):
        assert run(all_of(Job(DONE).events(watchers)))[0] == FIRST


def test_the_place_of_a_client_that_went_away_is_free() -> None:
    watchers = Watchers(1)

    async def go_away() -> str:
        told: asyncio.Queue[str] = asyncio.Queue()

        async def watch() -> None:
            async for text in Job(RUNNING).events(watchers, look_s=1e6):
                told.put_nowait(text)

        watching = asyncio.create_task(watch())
        assert [await told.get(), await told.get()] == [FIRST, event(RUNNING)]
        with watchers.place() as has_room:
            assert not has_room
        watching.cancel()
        await asyncio.wait([watching])
        return (await all_of(Job(DONE).events(watchers)))[0]

    assert run(go_away()) == FIRST
