"""How a command runs: what it says where, and how it ends."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, TextIO

from enformer_features.exceptions import (
    EnformerFeaturesError,
    EnformerFeaturesWarning,
    UntrainedWeightsWarning,
)

OK, FAILURE, BAD_INPUT, PARTIAL = 0, 1, 2, 3
INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143  # 128 + the signal, as in shells


_INSISTING_SECONDS = 3.0


class _Stop:
    """End the command by the first Ctrl-C or SIGTERM, and let it put things away.

    What follows soon after the first is not heard: people press twice, and shells and
    schedulers send several. Who asks again later is obeyed again.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._since = 0.0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signum is None or now - self._since > _INSISTING_SECONDS:
            self.signum, self._since = signum, now
            raise KeyboardInterrupt  # no Exception, so that nothing swallows it

    @property
    def exit_code(self) -> int:
        return TERMINATED if self.signum == signal.SIGTERM else INTERRUPTED


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command has."""
    group = parser.add_argument_group("messages")
    group.add_argument(
        "--json", action="store_true", help="print a summary as JSON on standard output"
    )
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument(
        "--quiet", action="store_true", help="no progress, notes or lesser warnings"
    )
    loudness.add_argument(
        "--verbose", action="store_true", help="progress also without a terminal, log"
    )
    group.add_argument(
        "--debug", action="store_true", help="show the traceback of an error"
    )


def run(args: argparse.Namespace, *, is_process: bool = False) -> int:
    """Run a parsed command and return its exit code.

    Errors become one message on standard error: exit code 2 for what the user gave
    (our errors that are ``ValueError`` or ``TypeError``), 1 for everything else. So do
    Ctrl-C and SIGTERM; see :func:`when_stopped`.

    Parameters
    ----------
    args : Namespace
    is_process : bool, default=False
        Whether nothing but the exit follows, which more signals must not disturb.
    """
    with _stoppable(is_process) as stop, _messages(args):
        try:
            code: int = args.run(args)
            sys.stdout.flush()
        except BrokenPipeError:
            _discard_stdout()
            code = BROKEN_PIPE
        except KeyboardInterrupt:
            code = _end(stop, args)
        except Exception as error:
            # An import that is interrupted may raise anything.
            code = _report(error, args) if stop.signum is None else _end(stop, args)
    return code


def when_stopped(args: argparse.Namespace, tell: Callable[[], str]) -> None:
    """Say what Ctrl-C and SIGTERM leave behind, and how to go on, in one line.

    Parameters
    ----------
    args : Namespace
    tell : callable
        Called after the command was stopped.
    """
    args.when_stopped = tell


def _end(stop: _Stop, args: argparse.Namespace) -> int:
    tell = getattr(args, "when_stopped", None)
    what = "a file is written whole or not at all: to go on, run the command again"
    say(args, f"interrupted; {tell() if tell else what}")
    return stop.exit_code


def say(args: argparse.Namespace, text: str) -> None:
    """Print a message on standard error."""
    print(f"enformer-features {args.command}: {text}", file=sys.stderr, flush=True)


def note(args: argparse.Namespace, text: str) -> None:
    """Print a message that ``--quiet`` leaves out."""
    if not args.quiet:
        say(args, _from_here(text))


def show(args: argparse.Namespace, summary: Mapping[str, Any]) -> None:
    """Print a summary on standard output: one ``name: value`` per line, or JSON."""
    if args.json:
        print(json.dumps(plain(summary), indent=2, allow_nan=False))
        return
    for name, value in summary.items():
        print(f"{name.replace('_', ' ')}: {_from_here(_as_text(value))}")


def progress(args: argparse.Namespace) -> bool | None:
    """Return the ``verbose`` of the embedder: None shows progress on a terminal."""
    return False if args.quiet else args.verbose or None


def as_flags(text: str, args: argparse.Namespace) -> str:
    """Write the parameters that a message names as the flags of this command.

    What calls a class or a function with such parameters names the flags alone. A
    command whose flag has another name than the parameter tells so in ``args.flags``,
    and that it has none by None.

    Examples
    --------
    >>> as_flags("use edge='pad', overwrite=True", argparse.Namespace(edge=1))
    "use --edge 'pad', overwrite=True"
    >>> as_flags("give Target(output=...), one of 'a'", argparse.Namespace(
    ...     flags={"output": "target"}))
    "give --target, one of 'a'"
    """
    names = {name: name for name in vars(args)} | getattr(args, "flags", {})

    def flag(match: re.Match[str]) -> str:
        name, value = names.get(match[1]), match[2]
        if name is None:
            return match[0]
        spelled = f"--{name.replace('_', '-')}"
        return spelled if value else f"{spelled} "

    def call(match: re.Match[str]) -> str:
        if names.get(match[2]) is None:
            return match[0]
        return f"{'give ' * bool(match[1])}{match[2]}={match[3]}"

    bare = re.sub(r"(call )?\b\w+\((?:path, )?([a-z_]+)=([^(),]*)\)", call, text)
    return re.sub(r"\b([a-z_]+)=(True\b|\.\.\.)?", flag, bare)


def _from_here(text: str) -> str:
    """Name the paths of a message from the folder at hand, where they are below it."""
    here = re.escape(os.path.join(os.getcwd(), ""))
    return re.sub(rf"(?<![^\s'\"(]){here}(?=\S)", "", text)


def _as_text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_as_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_as_text, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else str(value)


def plain(value: Any) -> Any:
    """Return what JSON can hold; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # of numpy
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)


def _report(error: Exception, args: argparse.Namespace) -> int:
    is_ours = isinstance(error, EnformerFeaturesError)
    code = FAILURE
    if is_ours and isinstance(error, ValueError | TypeError):
        code = BAD_INPUT
    message = as_flags(str(error), args)
    if not is_ours:
        message = f"{type(error).__name__}: {message}"
        if not args.debug:
            message += "\nThis was not foreseen; --debug shows where it happened"
    if args.debug:
        traceback.print_exception(error)
    say(args, f"error: {message}")
    if args.json:
        kind = type(error).__name__
        show(args, {"exit_code": code, "error": kind, "message": message})
    return code


@contextlib.contextmanager
def _stoppable(is_process: bool) -> Iterator[_Stop]:
    """Let Ctrl-C and SIGTERM unwind the program; threads cannot set that.

    A signal that is ignored, as ``nohup`` and shells in the background do, stays so.
    """
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {
        signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)
    }
    heard = [
        signum for signum, was in before.items() if was not in (signal.SIG_IGN, None)
    ]
    for signum in heard:
        signal.signal(signum, stop)
    try:
        yield stop
    finally:
        is_last = is_process and stop.signum is not None
        for signum in heard:
            signal.signal(signum, signal.SIG_IGN if is_last else before[signum])


@contextlib.contextmanager
def _messages(args: argparse.Namespace) -> Iterator[None]:
    """Send warnings, a line each and each once, and the log to standard error."""
    seen: set[str] = set()

    def show_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        is_vital = issubclass(category, UntrainedWeightsWarning)
        text = as_flags(" ".join(str(message).split()), args)
        key = category.__name__ if is_vital else text
        if key not in seen and (is_vital or not args.quiet):
            seen.add(key)
            say(args, f"warning: {text} ({category.__name__})")

    logger = logging.getLogger("enformer_features")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(_log_level(args))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", EnformerFeaturesWarning)
            warnings.showwarning = show_warning
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _log_level(args: argparse.Namespace) -> int:
    if args.debug:
        return logging.DEBUG
    return logging.INFO if args.verbose else logging.WARNING


def _discard_stdout() -> None:
    """Keep Python from complaining at exit about output that nobody reads."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
