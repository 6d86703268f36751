"""The engine of a GPU container: one loaded model, and what it says of itself to the fleet."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from infinitetalk.config import Settings
from infinitetalk.errors import InfiniteTalkError, Unavailable
from infinitetalk.jobs.engines import Engine, EngineState, ready
from infinitetalk.jobs.execute import Renderer
from infinitetalk.jobs.modal_host import ModalHost
from infinitetalk.jobs.modal_worker import ModalWorker
from infinitetalk.jobs.model import Job


def load_engine(
    host: ModalHost,
    slot: str,
    settings: Settings,
    load: Callable[[], Renderer],
    *,
    on_ended: Callable[[Job], None],
    end_process: Callable[[], None],
) -> ModalWorker:
    """Load the model and tell the fleet how that went.

    Args:
        slot: a name for this container.
        load: raises InfiniteTalkError when the model cannot be loaded here.
        on_ended, end_process: as in `ModalWorker`.
    """
    entry = Engine(slot, EngineState.LOADING, os.getpid(), time.time(), settings.preset)
    _post(host, entry)
    try:
        renderer = load()
    except Exception as error:
        code = error.code if isinstance(error, InfiniteTalkError) else InfiniteTalkError.code
        _post(host, replace(entry, state=EngineState.FAILED, error=code))
        raise
    _post(host, ready(entry, renderer))
    return ModalWorker(
        host.store,
        host.blobs,
        host.queue,
        host.calls,
        renderer,
        settings,
        on_ended=on_ended,
        end_process=end_process,
    )


def _post(host: ModalHost, entry: Engine) -> None:
    with suppress(Unavailable):  # it is for people to read
        host.engines.post(entry)
