"""``python -m jaxelbo.attention SYSTEM --data FOLDER``: trains a system of hard attention and reports its errors."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxelbo.attention import captions_command, dram_command, one_glimpse_command, ram_command, rationales_command

COMMANDS = {
    "captions": (captions_command, "show, attend and tell: rows of digits, read one cell a word"),
    "dram": (dram_command, "the deep recurrent attention model: context, two memories, several labels"),
    "ram": (ram_command, "the recurrent attention model: a few glimpses, then the label"),
    "one-glimpse": (one_glimpse_command, "one glimpse on a grid, where log p(y|I) and the bound can be summed"),
    "rationales": (rationales_command, "which words of a text give its label"),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"jaxelbo.attention: {message}; see python -m jaxelbo.attention --help\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command."""
    parser = _Parser(prog="python -m jaxelbo.attention", description="Trains systems of hard attention on real data.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    for name, (module, words) in COMMANDS.items():
        command = commands.add_parser(
            name, help=words, description=words, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        module.add_arguments(command, _count)
    options = parser.parse_args(arguments)
    try:
        COMMANDS[options.command][0].run(options)
    except (FloatingPointError, ImportError, OSError, TypeError, ValueError) as mistake:
        parser.exit(1, f"jaxelbo.attention: {mistake}\n")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
