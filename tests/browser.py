"""Chromium without a window, driven over its DevTools protocol: started, used, ended by process id.

    with Browser(folder) as browser:
        page = browser.open("http://127.0.0.1:3000/ui/")
        page.wait("document.title")

No more of the protocol than the tests of the page need. `make test-ui` installs Debian's Chromium.
"""

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx
import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome")
START_S = 30.0
WAIT_S = 30.0
LOOK_S = 0.05
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # CI runs as root, and the page is ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--mute-audio",
    "--remote-debugging-port=0",
)


class Browser:
    """One browser with a profile of its own."""

    def __init__(self, folder: Path) -> None:
        self._profile = folder / "profile"
        self._log = folder / "chromium.log"

    def __enter__(self) -> Self:
        program = next(filter(None, map(shutil.which, NAMES)), None)
        assert program is not None, "There is no Chromium: `make test-ui` installs it."
        self._profile.mkdir(parents=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
                stdout=log,
                stderr=log,
            )
        try:
            self._url = f"http://127.0.0.1:{self._port()}"
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()

    def open(self, url: str) -> "Page":
        """A new tab."""
        target = httpx.put(f"{self._url}/json/new?about:blank", timeout=START_S).json()
        page = Page(target["webSocketDebuggerUrl"])
        page.go(url)
        return page

    def _port(self) -> int:
        told = self._profile / "DevToolsActivePort"
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError, IndexError, ValueError):
                return int(told.read_text().splitlines()[0])
            time.sleep(LOOK_S)
        raise AssertionError(f"Chromium did not start:\n{self._log.read_text('utf-8', 'replace')}")


class Page:
    """One tab."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(
            address, timeout=WAIT_S, suppress_origin=True, max_size=None
        )
        self._ids = itertools.count(1)
        self.complaints: list[str] = []
        """What the console and the policy of the page said against it."""
        for domain in ("Page", "Runtime", "DOM", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """Close the tab."""
        self.call("Page.close")
        self._socket.close()

    def go(self, url: str) -> None:
        """Load an address, to its end."""
        self.call("Page.navigate", url=url)
        self.wait(f"document.readyState === 'complete' && location.href.startsWith({url!r})")

    def run(self, script: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        answer = self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = WAIT_S) -> Any:
        """The value of an expression as soon as it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(script)):
            if time.monotonic() > deadline:
                shown = self.run("document.body.innerText")
                raise AssertionError(f"{script} did not come true; the page shows:\n{shown}")
            time.sleep(LOOK_S)
        return value

    def text(self, selector: str) -> str:
        """What an element shows; empty when it is hidden."""
        return str(self.run(f"document.querySelector({selector!r}).innerText.trim()"))

    def is_shown(self, selector: str) -> bool:
        return bool(self.run(f"document.querySelector({selector!r}).checkVisibility()"))

    def click(self, selector: str) -> None:
        """Press an element that can be seen."""
        self.wait(f"document.querySelector({selector!r}).checkVisibility()")
        self.run(f"document.querySelector({selector!r}).click()")

    def write(self, selector: str, text: str) -> None:
        """Replace the text of a field, as if it were typed."""
        element = f"document.querySelector({selector!r})"
        self.run(f"{element}.value = {json.dumps(text)}")
        self.run(f"{element}.dispatchEvent(new Event('input', {{bubbles: true}}))")

    def press(self, key: str, code: int) -> None:
        """A key of the keyboard; `code` is its Windows key code."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key,
                windowsVirtualKeyCode=code, **text,
            )  # fmt: skip

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file."""
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=self._node(selector))

    def drop(self, selector: str, paths: Sequence[Path]) -> None:
        """Drag files from outside over an element, and let go."""
        self.run(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        box = self.run(f"document.querySelector({selector!r}).getBoundingClientRect().toJSON()")
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        data = {"items": [], "files": list(map(str, paths)), "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, data=data, **place)

    def look(self, width: int, height: int, scheme: str) -> None:
        """A window of this size, light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def shoot(self, path: Path) -> None:
        """A picture of the whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol, and its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])
            self._listen(message)

    def _node(self, selector: str) -> int:
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        return int(self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"])

    def _listen(self, message: dict[str, Any]) -> None:
        if message["method"] == "Runtime.exceptionThrown":
            self.complaints.append(str(message["params"]["exceptionDetails"]))
        elif message["method"] == "Log.entryAdded":
            entry = message["params"]["entry"]
            if entry["level"] == "error" and entry["source"] != "network":
                self.complaints.append(entry["text"])
