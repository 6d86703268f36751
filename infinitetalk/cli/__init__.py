"""The command `infinitetalk`. Every failure is one sentence with a code; `--debug` shows the stack.

Exit codes: 0 done, 1 a fault of ours, 2 input that cannot be rendered, 3 this machine is not set up
for it, 4 rendering failed, 130 interrupted.
"""

import argparse
import logging
import sys
import traceback
from collections.abc import Sequence

from infinitetalk import __version__
from infinitetalk.cli import accept, doctor, generate, report, submit, ui, weights
from infinitetalk.config import let_idle_threads_sleep
from infinitetalk.errors import Canceled, InfiniteTalkError

COMMANDS = (
    (generate, "generate"),
    (submit, "submit"),
    (ui, "ui"),
    (report, "report"),
    (weights, "weights"),
    (doctor, "doctor"),
    (accept, "accept"),
)
EXIT_CODES = __doc__.split("\n\n", 1)[1].strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = parser().parse_args(arguments)
    let_idle_threads_sleep()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        code: int = options.run(options)
        return code
    except InfiniteTalkError as error:
        _show_stack(options)
        print(f"{error.message} ({error.code})", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"Interrupted. ({Canceled.code})", file=sys.stderr)
        return Canceled.exit_code
    except Exception as error:
        _show_stack(options)
        kind = type(error).__name__
        print(
            f"Something broke that should not: {kind}. Run with --debug (internal)", file=sys.stderr
        )
        return InfiniteTalkError.exit_code


def _show_stack(options: argparse.Namespace) -> None:
    if options.debug:
        traceback.print_exc()


def parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser = argparse.ArgumentParser(
        prog="infinitetalk",
        description="A portrait or a video plus a voice becomes a lip-synced video.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"infinitetalk {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the stack of an error")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module, name in COMMANDS:
        summary = (module.__doc__ or "").split("\n", 1)[0]
        command = commands.add_parser(
            name, help=summary, description=summary, epilog=EXIT_CODES, parents=[common]
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser
