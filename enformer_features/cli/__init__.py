"""The command ``enformer-features``: parse, call one public function, write.

A command is a module of this folder with ``add_arguments(parser)`` and ``run(args)``,
which returns the exit code, and a line in ``COMMANDS``. Only the module of the command
that was asked for is imported, and heavy packages only once it runs.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from enformer_features import __version__

COMMANDS = {
    "demo": "from a toy genome to fitted predictions, in a minute",
    "embed": "turn regions or genes into Enformer features",
    "store": "do the same in units that are kept, by any number of processes",
    "fit": "fit a model of your measurement, and score it on held-out chromosomes",
    "evaluate": "compare heads and baselines, out of fold, on honest splits",
    "finetune": "tune the network to your measurement, and score it likewise",
    "predict": "predict with a fitted model or a tuned network",
    "variants": "score what the alleles of a VCF change",
    "explain": "say which bases, bins and elements a prediction rests on",
    "train": "train a network on tracks",
    "weights": "describe, convert or verify weights of the network",
    "cache": "look at rows that are kept on disk, check and tidy them",
    "info": "versions, devices, settings and where they come from",
}

_EPILOG = """\
Data go to standard output or to -o, everything else to standard error.
Exit codes: 0 done, 1 failure while running, 2 unusable input, 3 done but for
some rows, 130 interrupted, 143 terminated."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        The exit code: 0 done, 1 failure while running, 2 unusable input, 3 done but
        for some rows, 130 interrupted, 141 the reader of the output went away, 143
        terminated.

    Examples
    --------
    >>> main(["--version"])  # doctest: +ELLIPSIS
    enformer-features ...
    0
    """
    from enformer_features.cli.console import run

    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parser(arguments).parse_args(arguments)
    except SystemExit as stop:  # argparse has printed help or what is wrong
        return stop.code if isinstance(stop.code, int) else 2
    return run(args, is_process=argv is None)


class _Parser(argparse.ArgumentParser):
    """Take options by their whole names, and say which one was meant.

    Commands and their actions have parsers of this class too, so that each shows its
    own usage.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Refuse what is not known, before anything that is missing is told."""
        if self._subparsers is None:  # otherwise some options are those of a command
            for word in takewhile(lambda word: word != "--", args or ()):
                self._check_option(word.split("=")[0])
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return known, rest

    def _check_option(self, name: str) -> None:
        is_option = len(name) > 2 and name.startswith("--") and " " not in name
        options = self._option_string_actions
        if is_option and name not in options:
            near = difflib.get_close_matches(name, options, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.error(f"there is no option {name}{hint}")


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Make a parser that knows the options of the command that is asked for."""
    parser = _Parser(
        prog="enformer-features",
        description="Predict your own measurement from DNA with Enformer features.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"enformer-features {__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    asked = next((word for word in arguments if word in COMMANDS), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=f"{name}: {summary}."
        )
        if name == asked:
            module = importlib.import_module(f"{__name__}.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser
