"""The BentoML service: `bentoml serve` starts it from here, from a Bento and in the image.

BentoML is the server, the schema, the client protocol and the packaging. The jobs underneath are
ours: `TaskProtocol` answers everything below /generate before BentoML's own parser and task store
could, and every other route of ours is one mounted app. Nothing is opened on import, and torch is
loaded in the engine process only.
"""

from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from pydantic import Field

from infinitetalk.config import load_settings
from infinitetalk.jobs.journal import open_journal
from infinitetalk.serving.app import create_app
from infinitetalk.serving.backend import Backend
from infinitetalk.serving.protocol import TaskProtocol
from infinitetalk.serving.request import GenerateRequest

settings = load_settings()
backend = Backend(settings)


class GenerateInput(GenerateRequest):
    """The fields of a request with its files, for /schema.json and the clients that read it."""

    # BentoML's schema knows no optional file, but a default makes it one.
    image: Annotated[Path, Field(None, description="Picture or video of who speaks.")]
    audio: Annotated[Path, Field(None, description="Speech, or a video with sound.")]
    audio_2: Annotated[Path, Field(None, description="The voice of a second speaker.")]


@bentoml.asgi_app(create_app(backend), path="/")
@bentoml.service(name="infinitetalk", workers=settings.workers, traffic={"timeout": 86400})
class InfiniteTalk:
    """A portrait or a video plus a voice becomes a lip-synced video of any length."""

    @bentoml.task(input_spec=GenerateInput)
    def generate(self, **fields: object) -> Annotated[Path, ContentType("video/mp4")]:
        """Render a video: submit, ask for the status, get the result."""
        raise AssertionError("TaskProtocol answers before this could be called")

    @bentoml.on_startup
    def open_journal(self) -> None:
        open_journal()

    def __is_ready__(self) -> bool:
        return backend.is_ready()

    def __metrics__(self, text: str) -> str:
        return text + backend.metrics()


InfiniteTalk.add_asgi_middleware(TaskProtocol, backend=backend)
