"""SIGTERM without waiting, and the death of a parent.

A server lets its open connections end before it runs any shutdown hook; engines and waiting
requests have to know at once. BentoML's workers outlive their arbiter when that is killed: they
watch it and end themselves.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

BENTOML_WORKER = "_bentoml_impl.worker.service"
WATCH_S = 0.5
GRACE_S = 30.0  # engines need 22


def chain_sigterm(on_term: Callable[[], None]) -> None:
    """Call `on_term`, then whatever handled SIGTERM and SIGINT before; main thread only."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        signal.signal(number, _chained(on_term, before))


def is_bentoml_worker() -> bool:
    """Whether this process is one that `bentoml serve` started."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == BENTOML_WORKER


def die_with_parent() -> None:
    """From now on end this process, first politely, when its parent ends."""
    threading.Thread(target=_watch, args=(os.getppid(),), name="parent", daemon=True).start()


def _chained(
    on_term: Callable[[], None], before: object
) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        on_term()
        if callable(before):
            before(number, frame)
        elif before is signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    return handle


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)
