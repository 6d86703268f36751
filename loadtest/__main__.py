"""A bounded load test that leaves a report: `python -m loadtest`.

    outputs/loadtest/report.html     Locust's report
    outputs/loadtest/statistics.csv  its table
    outputs/loadtest/journeys.csv    every journey
    outputs/loadtest/queue.csv       the queue, second by second
    outputs/loadtest/plot.png        queue depth and latency over time

Without --host it starts a server of its own with the preset `tiny`, and ends it. Exit codes: 0
within the error budget, 1 above it, 2 refused.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from infinitetalk.errors import InfiniteTalkError
from loadtest.budget import check_affordable
from loadtest.journeys import read_journeys, summary
from loadtest.options import add_options, as_arguments, headers_of
from loadtest.plot import draw_run
from loadtest.queue_watch import QueueWatch
from tests.running_server import RunningServer

ROOT = Path(__file__).parents[1]
GRACE_S = 120  # for the last calls of a video that is given up
LOCUSTFILE = Path(__file__).with_name("locustfile.py")


def main(arguments: Sequence[str] | None = None) -> int:
    """Put load on a server and say how it went; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        check_affordable(options.host or "http://localhost", options.max_cost)
    except InfiniteTalkError as error:
        print(f"{error.message} ({error.code})", file=sys.stderr)
        return error.exit_code
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    (output / "journeys.csv").unlink(missing_ok=True)
    with _host(options) as host, QueueWatch(host, headers_of(options)) as watch:
        code = _run_locust(host, options)
    watch.save(output / "queue.csv")
    journeys = read_journeys(output / "journeys.csv")
    draw_run(output / "plot.png", watch.depths, journeys)
    print(summary(journeys))
    print(f"Report: {output / 'report.html'}  Plot: {output / 'plot.png'}")
    return code


@contextmanager
def _host(options: argparse.Namespace) -> Iterator[str]:
    """The server that was named, or one of our own for as long as the block lasts."""
    if options.host is not None:
        yield options.host
        return
    with tempfile.TemporaryDirectory(prefix="loadtest-") as folder:
        server = RunningServer(Path(folder))
        try:
            with server:
                server.wait_for_engine()
                print(f"A server with the preset tiny runs at {server.url}.", flush=True)
                yield server.url
        finally:
            shutil.copy(server.log, options.output / "server.log")


def _run_locust(host: str, options: argparse.Namespace) -> int:
    """Locust in a process of its own, which its patches of the standard library need."""
    output: Path = options.output.resolve()
    command = [
        *(sys.executable, "-m", "locust", "--headless", "--only-summary", "--loglevel", "WARNING"),
        *("--locustfile", str(LOCUSTFILE), "--host", host),
        *("--users", str(options.users), "--spawn-rate", str(options.users)),
        *(
            "--run-time",
            f"{options.seconds}s",
            "--stop-timeout",
            f"{options.deadline + GRACE_S:.0f}s",
        ),
        *("--html", str(output / "report.html"), "--table", str(output / "statistics.csv")),
        *("--journeys", str(output / "journeys.csv"), *as_arguments(options)),
    ]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest", description=__doc__)
    add = parser.add_argument
    add("--host", metavar="URL", help="a running server (default: one is started)")
    add("--users", type=int, default=4, metavar="N", help="how many at the same time (default: 4)")
    add("--seconds", type=int, default=20, metavar="S", help="how long to submit (default: 20)")
    output = Path("outputs/loadtest")
    add("--output", type=Path, default=output, metavar="DIR", help=f"default: {output}")
    add_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
