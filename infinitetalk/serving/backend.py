"""Everything behind the HTTP face of one process: opened once, closed once, asked by every route.

    open    preset -> weights there? -> job store -> sandbox -> desk -> engines and chores
    drain   no new work, engines hand their jobs back           (SIGTERM, a dead parent)
    close   all of it ended

With several server processes on one data folder each has its own backend; engines and chores run
in one of them. Before a fleet, `use` says whose jobs these are.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from starlette.requests import Request

from infinitetalk import __version__
from infinitetalk.config import Settings
from infinitetalk.disclosure.label import OFF
from infinitetalk.disclosure.marking import check_disclosure
from infinitetalk.errors import Draining, InvalidField, NotReady, Unavailable
from infinitetalk.jobs.duty import Duty
from infinitetalk.jobs.host import Host
from infinitetalk.jobs.model import Clock, Status
from infinitetalk.preset_choice import PresetChoice, ask_preset
from infinitetalk.serving.access import Gatekeeper
from infinitetalk.serving.desk import Caller, Desk
from infinitetalk.serving.fetch import Fetcher
from infinitetalk.serving.intake import Checker, Intake
from infinitetalk.serving.metrics import metrics_text
from infinitetalk.serving.one_host import OpenHost, open_one_host
from infinitetalk.serving.replies import request_id
from infinitetalk.serving.sandbox import Sandbox
from infinitetalk.serving.signals import chain_sigterm, die_with_parent, is_bentoml_worker
from infinitetalk.serving.watchers import Watchers
from infinitetalk.spec import MAX_PROMPT_CHARACTERS, MIN_SPEECH_SECONDS, PRESETS
from infinitetalk.weights.selection import require_weights

MAX_KEY_CHARACTERS = 255
log = logging.getLogger(__name__)


class Backend:
    """What the routes of one process share.

    Args:
        fetcher, checker: how URLs are opened and media are checked; as the settings say by default.
        clock: seconds since 1970, UTC.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        fetcher: Fetcher | None = None,
        checker: Checker | None = None,
        clock: Clock = time.time,
    ) -> None:
        self.settings = settings
        self._fetcher = fetcher or Fetcher.from_settings(settings)
        self._clock = clock
        self._open_host = open_one_host(settings, clock)
        self.watchers = Watchers(settings.max_watchers)
        self._gatekeeper = Gatekeeper(settings.api_keys)
        self._draining = threading.Event()
        self._choice: PresetChoice | None = None
        self._host: Host | None = None
        self._desk: Desk | None = None
        self._checker = checker
        self._owns_checker = checker is None
        self._duties: Sequence[Duty] = ()
        self._opening = threading.Lock()

    def use(self, open_host: OpenHost, checker: Checker) -> None:
        """Stand before other jobs than those of this host; to be called before `open`."""
        self._open_host, self._checker, self._owns_checker = open_host, checker, False

    def open(self) -> None:
        """Start; what is wrong with the deployment stops it here, a broken store does not.

        Raises:
            WeightsMissing: the named preset's weights are not there.
            InvalidSetting: videos cannot be labelled or signed as the settings say.
        """
        choice = self._choice = ask_preset(self.settings)
        if choice.reason is not None:
            log.warning("USING THE PRESET %s: %s.", choice.preset.upper(), choice.reason)
        if self.settings.engines:
            require_weights(choice.preset, self.settings)
            check_disclosure(self.settings)
        self._checker = self._checker or Sandbox(self.settings)
        self._checker.start()
        try:
            self._opened()
        except Unavailable as error:
            log.critical("The service is not ready: %s", error.message)

    def close(self) -> None:
        """End everything; waits until the engines have handed their jobs back."""
        self.drain()
        for duty in self._duties:
            duty.stop()
        if self._checker is not None and self._owns_checker:
            self._checker.close()
        if self._host is not None:
            self._host.close()

    def drain(self) -> None:
        """Take nothing new and let the engines stop; does not wait."""
        self._draining.set()
        for duty in self._duties:
            duty.ask_to_stop()

    @property
    def look_s(self) -> float:
        """Seconds between two looks at a job that somebody waits for."""
        return self._opened().look_s

    @property
    def is_draining(self) -> bool:
        return self._draining.is_set()

    @property
    def desk(self) -> Desk:
        """
        Raises:
            Draining: this process is about to end.
            NotReady, StoreBusy, StoreCorrupt: there is no store to work on.
        """
        if self.is_draining:
            raise Draining("The service is shutting down, try again.", retry_after_s=10.0)
        self._opened()
        assert self._desk is not None
        return self._desk

    def is_ready(self) -> bool:
        """Whether jobs are taken and their results given: store, disk, not draining."""
        try:
            host = self._opened()
            host.store.counts(Status.PENDING)
        except Unavailable:
            return False
        return not self.is_draining and self._has_room(host)

    def caller(self, request: Request) -> Caller:
        """Who asks.

        Raises:
            Unauthenticated: the request carries no key of ours.
            InvalidField: its idempotency key is none.
        """
        key = request.headers.get("idempotency-key")
        owner = self._gatekeeper.owner(request)
        if key is not None and not (0 < len(key) <= MAX_KEY_CHARACTERS and key.isprintable()):
            raise InvalidField(
                f"Idempotency-Key must be 1 to {MAX_KEY_CHARACTERS} printable characters.",
                field="Idempotency-Key",
            )
        return Caller(owner, request_id(request), key)

    def load(self) -> dict[str, Any]:
        """How much there is to do, as JSON."""
        host = self._opened()
        counts = host.store.counts(Status.PENDING, Status.IN_PROGRESS)
        return {
            "pending": counts[Status.PENDING],
            "in_progress": counts[Status.IN_PROGRESS],
            "oldest_pending_s": round(host.queue.oldest_s(), 1),
            "limit": self.settings.max_queue,
        }

    def info(self) -> dict[str, Any]:
        """What is deployed here, as JSON."""
        host = self._opened()
        assert self._choice is not None
        preset = PRESETS[self._choice.preset]
        settings = self.settings
        return {
            "service": "infinitetalk",
            "version": __version__,
            "preset": {
                "name": preset.name,
                "use": preset.use,
                "caveat": preset.caveat,
                "why": self._choice.reason,
                "resolutions": list(preset.shift),
                "steps": preset.steps,
                "max_steps": preset.max_steps,
                "text_guidance": preset.text_guidance,
                "audio_guidance": preset.audio_guidance,
            },
            "limits": {
                "max_audio_seconds": settings.max_audio_seconds,
                "max_image_megapixels": settings.max_image_megapixels,
                "max_video_megapixels": settings.max_video_megapixels,
                "max_file_megabytes": settings.max_file_megabytes,
                "max_prompt_characters": MAX_PROMPT_CHARACTERS,
                "min_speech_seconds": MIN_SPEECH_SECONDS,
                "max_queue": settings.max_queue,
                "retention_hours": settings.retention_hours,
            },
            "needs_key": bool(settings.api_keys),
            "needs_consent": bool(settings.require_consent),
            "label": None if settings.label == OFF else settings.label,
            "engines": [asdict(engine) for engine in host.engines.all()],
        }

    def metrics(self) -> str:
        """Prometheus metrics of the job layer."""
        return metrics_text(self._opened(), self._clock())

    def listen_for_signals(self) -> None:
        """Drain as soon as SIGTERM comes, not when the last connection is closed."""
        chain_sigterm(self.drain)
        if is_bentoml_worker():
            die_with_parent()

    def _opened(self) -> Host:
        """The job store; one that could not be opened at the start is tried again."""
        with self._opening:
            if self._host is None:
                if self._choice is None or self._checker is None:
                    raise NotReady("The service is starting.", retry_after_s=1.0)
                preset = self._choice.preset
                opened = self._open_host(preset, self._fetcher)
                intake = Intake(self.settings, preset, self._fetcher, self._checker)
                host = opened.host
                self._desk = Desk(self.settings, host, intake, self._clock, opened.engines)
                self._duties = opened.duties
                for duty in self._duties:
                    duty.start()
                self._host = host
            return self._host

    def _has_room(self, host: Host) -> bool:
        return host.blobs.free_bytes() >= self.settings.min_free_gigabytes * 1e9
