"""The same work on many things, several at a time; the first error ends all of it."""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

FAREWELL_S = 0.5  # for a thread that is to stop

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, stop: threading.Event
) -> list[Result]:
    """The results in the order of the items.

    The threads are daemons, and one that does not stop is left behind: a connection that hangs must
    not keep Ctrl-C from ending the process.

    Args:
        stop: set when the rest is not wanted any more, because of an error or of Ctrl-C; the work
            has to look at it before it changes anything.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Callable[[], Result]]] = queue.SimpleQueue()
    for index in range(len(items)):
        todo.put(index)
    threads = [
        threading.Thread(target=_serve, args=(work, items, todo, done, stop), daemon=True)
        for _ in range(min(workers, len(items)))
    ]
    results: dict[int, Result] = {}
    try:
        for thread in threads:
            thread.start()
        for _ in items:
            index, outcome = done.get()
            results[index] = outcome()
    finally:
        stop.set()
        for thread in threads:
            thread.join(FAREWELL_S)
    return [results[index] for index in range(len(items))]


def _serve(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    todo: "queue.SimpleQueue[int]",
    done: "queue.SimpleQueue[tuple[int, Callable[[], Result]]]",
    stop: threading.Event,
) -> None:
    while not stop.is_set():
        try:
            index = todo.get_nowait()
        except queue.Empty:
            return
        done.put((index, _outcome(work, items[index])))


def _outcome(work: Callable[[Item], Result], item: Item) -> Callable[[], Result]:
    """What gives the result, or raises the error, in another thread."""
    try:
        result = work(item)
    except BaseException as error:
        failure = error
    else:
        return lambda: result

    def fail() -> Result:
        raise failure

    return fail
