"""A task service as BentoML's documentation has it: what ours is compared with."""

import time
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from starlette.responses import Response


@bentoml.service(name="stock", workers=1)
class Stock:
    @bentoml.task
    def generate(
        self, image: Path, audio: Path, prompt: str = ""
    ) -> Annotated[Path, ContentType("video/mp4")]:
        time.sleep(1.0)
        headers = {"content-disposition": "attachment; filename=video.mp4"}
        # A Path would never complete: BentoML 1.4.39 fails to read it back.
        return Response(image.read_bytes(), media_type="video/mp4", headers=headers)  # type: ignore[return-value]
