"""``enformer-features info``: what there is on this machine, and what is set."""

from __future__ import annotations

import argparse
import os
from typing import Any

from enformer_features import __version__
from enformer_features.cli.console import OK, add_common, show
from enformer_features.cli.options import SETTINGS, add_settings, settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``info``."""
    add_settings(parser)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Print versions, devices, settings and weights; downloads nothing."""
    from enformer_features.inference.devices import available_devices
    from enformer_features.storage.environment import environment

    here = environment()
    described: dict[str, Any] = {
        "version": __version__,
        "python": here["python"],
        "packages": here["packages"],
        "devices": available_devices(),
        "cache_folder": _cache_folder(),
        "settings": _settings(args),
        "weights": _weights(),
    }
    if args.json:
        show(args, described)
        return OK
    of_settings, of_weights = described.pop("settings"), described.pop("weights")
    show(args, described)
    show(args, {f"setting {name}": _origin(**of) for name, of in of_settings.items()})
    show(args, {f"weights {name}": _presence(**of) for name, of in of_weights.items()})
    return OK


def _cache_folder() -> dict[str, str]:
    from enformer_features.folders import user_cache_folder

    named = os.environ.get("ENFORMER_FEATURES_CACHE")
    origin = "environment ENFORMER_FEATURES_CACHE" if named else "default"
    return {"value": str(user_cache_folder()), "origin": origin}


def _settings(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    from enformer_features.estimators.embedder import EnformerEmbedder

    defaults = EnformerEmbedder().get_params()
    given = settings(args)
    found = {name: given.get(name, (defaults[name], "default")) for name in SETTINGS}
    return {
        name: {"value": value, "origin": origin}
        for name, (value, origin) in found.items()
    }


def _weights() -> dict[str, dict[str, Any]]:
    from enformer_features.model.inspection import describe_weights
    from enformer_features.model.registry import BUNDLED, PUBLISHED, UNTRAINED

    found = {}
    for name in (*PUBLISHED, *BUNDLED, *UNTRAINED):
        described = describe_weights(name)
        is_here = described["path"] is not None or not described["trained"]
        found[name] = {
            "trained": described["trained"],
            "here": is_here,
            "path": described["path"],
            "digest": described["digest"],
        }
    return found


def _origin(value: object, origin: str) -> str:
    return f"{'none' if value is None else value} ({origin})"


def _presence(trained: bool, here: bool, path: object, digest: str | None) -> str:
    if not trained:
        return "random, for trying out; nothing to download"
    return f"{path}, {digest}" if here else "not here; downloaded at the first use"
