"""Work on several threads: in order, together, and over with the first error."""

import threading

import pytest

from infinitetalk.weights.in_parallel import in_parallel


def test_results_come_in_the_order_of_the_items() -> None:
    second_is_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second_is_done.wait(10)
        if item == 1:
            second_is_done.set()
        return item * item

    assert in_parallel(work, range(5), 2, threading.Event()) == [0, 1, 4, 9, 16]


def test_as_many_as_there_are_workers_go_on_at_once() -> None:
    everybody = threading.Barrier(3, timeout=10)
    in_parallel(lambda _: everybody.wait(), range(3), 3, threading.Event())


def test_nothing_to_do_is_done() -> None:
    assert in_parallel(str, [], 4, threading.Event()) == []


def test_the_first_error_stops_the_rest_and_is_raised() -> None:
    stop = threading.Event()
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise LookupError("item 1")
        if item != 0:
            stop.wait(10)

    with pytest.raises(LookupError, match="item 1"):
        in_parallel(work, range(100), 2, stop)
    assert stop.is_set()
    assert len(begun) < 5


def test_a_thread_that_hangs_is_left_behind() -> None:
    for_ever = threading.Event()

    def work(item: int) -> None:
        if item == 1:
            raise LookupError
        for_ever.wait()

    with pytest.raises(LookupError):
        in_parallel(work, range(2), 2, threading.Event())
    for_ever.set()
