"""``enformer-features weights``: describe, convert and verify weights."""

from __future__ import annotations

import argparse

from enformer_features.cli.console import OK, add_common, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``weights``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    info = actions.add_parser("info", help="what is known of them; reads no array")
    convert = actions.add_parser(
        "convert", help="write a folder with config.json and model.safetensors"
    )
    verify = actions.add_parser("verify", help="read them as a load would")
    for action in (info, convert, verify):
        action.add_argument(
            "name", metavar="WEIGHTS", help="a name, a folder or file, or a hub id"
        )
    convert.add_argument("folder", metavar="FOLDER", help="made if it is not there")
    convert.add_argument(
        "--overwrite", action="store_true", help="replace weights that are there"
    )
    verify.add_argument(
        "--vector",
        metavar="FILE",
        help=".npz with codes (n, L) and the embedding that they should have",
    )
    for action in (info, convert, verify):
        add_common(action)


def run(args: argparse.Namespace) -> int:
    """Call the action and print what it finds."""
    from enformer_features.model.inspection import convert, describe_weights, verify

    if args.action == "info":
        show(args, describe_weights(args.name))
    elif args.action == "verify":
        show(args, verify(args.name, args.vector))
    else:
        folder = convert(args.name, args.folder, overwrite=args.overwrite)
        show(args, {"folder": folder})
    return OK
