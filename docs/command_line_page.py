"""docs/reference/command-line.md: the command `infinitetalk` as its own parser has it."""

import argparse
from collections.abc import Iterator

from infinitetalk.cli import EXIT_CODES, parser


def command_line_page() -> str:
    """Every command with its options."""
    head = [
        "# Command line",
        "",
        "`infinitetalk COMMAND --help` says the same. In a checkout the command is "
        "`.venv/bin/infinitetalk`.",
        "",
        f"{EXIT_CODES.replace(chr(10), ' ')} What went wrong is one sentence with a code of "
        "[errors.md](errors.md).",
        "",
    ]
    return "\n".join([*head, *_commands(parser())])


def _commands(command: argparse.ArgumentParser) -> Iterator[str]:
    """The command, unless there is nothing to it but others, and all below it."""
    below = [action for action in command._actions if _is_choice_of_commands(action)]
    if not below:
        yield from _command(command)
    for choice in below:
        for name in choice.choices or ():
            yield from _commands(choice.choices[name])  # type: ignore[index]


def _command(command: argparse.ArgumentParser) -> Iterator[str]:
    yield from (f"## {command.prog}", "", command.description or "", "")
    actions = [action for action in command._actions if action.dest != "help"]
    yield from ("| option | |", "|---|---|")
    for action in actions:
        yield f"| {_words(action)} | {_meaning(action)} |"
    yield ""


def _is_choice_of_commands(action: argparse.Action) -> bool:
    return isinstance(action, argparse._SubParsersAction)


def _words(action: argparse.Action) -> str:
    """How it is written."""
    name = action.option_strings[-1] if action.option_strings else ""
    value = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
    if action.choices is not None:
        value = "\\|".join(str(choice) for choice in action.choices)
    repeated = "..." if action.nargs == "*" else ""
    return f"`{f'{name} {value}'.strip()}{repeated}`"


def _meaning(action: argparse.Action) -> str:
    needed = ", needed" if action.required and action.option_strings else ""
    told = (action.help or "").replace("%(default)s", _text(action.default)).replace("%%", "%")
    return f"{told.replace('|', chr(92) + '|')}{needed}"


def _text(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)
