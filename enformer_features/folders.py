"""Where the package keeps what it can make again; imports nothing of ours."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def user_cache_folder() -> Path:
    """Return the folder for what can be computed again; it need not exist yet.

    ``ENFORMER_FEATURES_CACHE`` if it is set, else ``enformer_features`` in the
    platform's folder for caches.

    Raises
    ------
    RuntimeError
        If the user has no home folder.
    """
    named = os.environ.get("ENFORMER_FEATURES_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    if sys.platform == "win32":
        base, default = os.environ.get("LOCALAPPDATA"), "~/AppData/Local"
    elif sys.platform == "darwin":
        base, default = None, "~/Library/Caches"
    else:
        base, default = os.environ.get("XDG_CACHE_HOME"), "~/.cache"
    return Path(base or default).expanduser().absolute() / "enformer_features"
