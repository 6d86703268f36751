"""Fetch, check, prepare and look after the weights of the full model.

`prepare` is all that a deployment needs: it fetches what is missing, merges base, audio adapter and
LoRA, and writes a folder that loads in seconds. An interrupted `download` or `prepare` continues
where it stopped.
"""

import argparse
from collections.abc import Callable

from infinitetalk.cli.weights import check, download, prepare, prune, status, verify

Step = Callable[[argparse.Namespace], int]
STEPS = {
    "prepare": prepare,
    "check": check,
    "download": download,
    "status": status,
    "verify": verify,
    "prune": prune,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commands of `infinitetalk weights`."""
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, module in STEPS.items():
        summary = (module.__doc__ or "").split("\n", 1)[0]
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("--debug", action="store_true", help="show the stack of an error")
        module.add_arguments(command)
        command.set_defaults(step=module.run)


def run(options: argparse.Namespace) -> int:
    """Run the chosen one."""
    step: Step = options.step
    return step(options)
