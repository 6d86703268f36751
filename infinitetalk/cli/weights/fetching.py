"""Bring the original files of a model here, with a bar."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal

from infinitetalk.cli.progress_bar import TerminalBar
from infinitetalk.cli.weights.choice import Choice
from infinitetalk.weights.catalog import Part
from infinitetalk.weights.download import Fetched, Progress, download


@contextmanager
def resumable(console: Console) -> Iterator[None]:
    """Say to whoever interrupts that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("The same command goes on from here.")
        raise


def fetch(choice: Choice, parts: Sequence[Part], console: Console) -> dict[str, Fetched]:
    """The files of some parts of the model, by part."""
    with TerminalBar(console, "asking what there is") as bar:

        def show(now: Progress) -> None:
            # Fetching and checking are of a length on a fast line, so each is half of the bar.
            fraction = (now.fetched + now.checked) / (2 * now.total or 1)
            line = f"original files: {int(fraction * 10) * 10} % of {decimal(now.total)}"
            here = f"fetched {decimal(now.fetched)}, checked {decimal(now.checked)}"
            bar.update(fraction, f"{here} of {decimal(now.total)}", line)

        fetched = download(parts, choice.origin, choice.downloads, on_progress=show)
    for one in fetched.values():
        for reason in one.passed_over:
            console.print(f"{one.part.name} is taken from {one.source.name}: {reason}")
    return fetched
