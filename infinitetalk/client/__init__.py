"""Talking to a running service from Python.

    with Client("http://localhost:3000") as client:
        task = client.submit("face.png", "voice.wav", prompt="A person talks.")
        task.wait(on_status=print)
        task.download("video.mp4")

`Client` is ours: uploads stream from disk, downloads resume, calls are repeated when that is safe,
errors are those of `infinitetalk.errors`. `sync_client` and `async_client` are BentoML's own
clients, repaired. Neither needs a GPU, torch or anything of the engine.
"""

from infinitetalk.client.patience import Patience
from infinitetalk.client.stock import async_client, sync_client
from infinitetalk.client.tasks import Client, Task

__all__ = ["Client", "Patience", "Task", "async_client", "sync_client"]
