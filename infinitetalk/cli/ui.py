"""Show the page of a service whose door a browser cannot open, at an address of this machine.

A proxy such as Modal's asks for headers that no browser sends; here they are added to every
request. Whoever uses this machine can use the service meanwhile.
"""

import argparse
from contextlib import closing

from rich.console import Console

from infinitetalk.cli.server import add_server, api_key_of, headers_of
from infinitetalk.client.connection import Connection
from infinitetalk.client.forwarder import Forwarder
from infinitetalk.client.patience import Patience
from infinitetalk.errors import InvalidField

PORT = 3210
SILENCE_S = 180.0  # a result may be a while on its way

console = Console(stderr=True, highlight=False, soft_wrap=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `infinitetalk ui`."""
    add_server(parser)
    parser.add_argument(
        "--port", type=int, default=PORT, metavar="N", help=f"of this machine (default: {PORT})"
    )


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    headers = headers_of(options)
    if key := api_key_of(options):
        headers["Authorization"] = f"Bearer {key}"
    with (
        closing(Connection(options.url, headers, SILENCE_S, Patience(0.0))) as connection,
        _open(options.port, connection) as forwarder,
    ):
        console.print(f"The page is at {forwarder.url}/ui/ until you press Ctrl-C.")
        forwarder.serve_forever()
    return 0


def _open(port: int, connection: Connection) -> Forwarder:
    try:
        return Forwarder(port, connection)
    except (OSError, OverflowError) as error:
        raise InvalidField(f"Port {port} cannot be used: choose another.", field="port") from error
