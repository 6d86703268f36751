"""Serve a fake hub until Ctrl-C: the address is the first line of the output."""

import argparse
import threading
from contextlib import suppress
from pathlib import Path

from tests.fake_hub import CATALOG_FILE, FakeHub, build


def main() -> None:
    """Build the folder where there is none, and serve it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fake_hub", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    if not (options.folder / CATALOG_FILE).exists():
        build(options.folder)
    with FakeHub(options.folder, port=options.port) as hub, suppress(KeyboardInterrupt):
        print(f"HF_ENDPOINT={hub.endpoint}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
