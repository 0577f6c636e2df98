"""Print the requirements that ``setup.cfg`` lists, for the extras that are named.

``python scripts/requirements.py test`` is what ``pip install ".[test]"`` would
install, but for one exchange. On Linux ``xgboost`` needs an NVIDIA library of 350 MB
even where there is no GPU, so ``xgboost-cpu`` (6 MB, the same module) takes its place.
An ``xgboost`` that is already there is left alone.
"""

from __future__ import annotations

import sys
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path

SETUP = Path(__file__).resolve().parent.parent / "setup.cfg"


def requirements(extras: list[str]) -> list[str]:
    """Return the requirements of the package and of some of its extras."""
    setup = ConfigParser(interpolation=None)
    setup.read(SETUP, encoding="utf-8")
    texts = [setup["options"]["install_requires"]]
    texts += [setup["options.extras_require"][extra] for extra in extras]
    lines = [line for text in texts for line in text.split("\n") if line]
    return [exchanged for line in lines if (exchanged := _without_nccl(line))]


def _without_nccl(requirement: str) -> str:
    if not requirement.startswith("xgboost"):
        return requirement
    if find_spec("xgboost"):
        return ""
    name = "xgboost-cpu" if sys.platform == "linux" else "xgboost"
    return requirement.replace("xgboost", name)


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
