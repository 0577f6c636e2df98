"""``enformer-features demo``: the whole way on invented data."""

from __future__ import annotations

import argparse
from pathlib import Path

from enformer_features.cli.console import OK, add_common, progress, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``demo``."""
    parser.add_argument(
        "folder",
        nargs="?",
        default="enformer-features-demo",
        metavar="FOLDER",
        help="where its files go (default: enformer-features-demo)",
    )
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Run the demonstration and print what it says."""
    from enformer_features.demo import run_demo

    result = run_demo(Path(args.folder), verbose=progress(args))
    if args.json:
        show(args, vars(result))
    else:
        print(result.summary)
    return OK
