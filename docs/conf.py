"""How Sphinx builds the documentation: ``make docs``, offline, without warnings.

The pages are Markdown that reads as well on a code host. What lies outside this folder
(README, CHANGELOG, CONTRIBUTING, benchmarks) is copied into ``made/``, with its links
moved along; there, too, goes a page for every module. git ignores that folder.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
from pathlib import Path, PurePosixPath

import enformer_features

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
MADE = DOCS / "made"
PACKAGE = ROOT / "enformer_features"
OUTSIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]+)?\)")

project = "enformer-features"
author = "the authors of enformer-features"
version = release = enformer_features.__version__
extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_parser"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # a README may begin where it likes
exclude_patterns = ["_build", "**/__pycache__"]
html_theme = "alabaster"  # comes with Sphinx and fetches nothing
html_theme_options = {
    "description": enformer_features.__doc__.split("\n")[0].split(": ")[1],
    "fixed_sidebar": True,
    "page_width": "1080px",
    "sidebar_width": "240px",
}
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False

autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "show-inheritance": True,
}
autodoc_typehints = "none"  # the docstrings say it with shapes and units
numpydoc_show_class_members = False  # autodoc shows them


def moved(path: str) -> str | None:
    """Return where the documentation has a file of the repository; None for nowhere.

    Both are relative, to this folder and to the repository.
    """
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    is_page = path in OUTSIDE or re.fullmatch(r"benchmarks/\w+\.md", path)
    return f"made/{path}" if is_page and (ROOT / path).is_file() else None


def relink(text: str, source: str, page: str) -> str:
    """Make the links of a page lead to where the documentation has their targets.

    Parameters
    ----------
    text : str
        Markdown.
    source : str
        The file it is from, relative to the repository.
    page : str
        Where it stands, relative to this folder.

    Returns
    -------
    str
        Links to files that are no pages, such as scripts, become their names.
    """

    def replaced(match: re.Match[str]) -> str:
        text, target, anchor = match.groups(default="")
        if ":" in target:
            return match[0]
        found = os.path.normpath(PurePosixPath(source).parent / target)
        place = moved(found)
        if place is None:
            return text
        relative = os.path.relpath(place, PurePosixPath(page).parent)
        return f"[{text}]({relative}{anchor})"

    return LINK.sub(replaced, text)


def modules() -> list[str]:
    """Return the public modules of the package, dotted, without the package's name."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if not any(part.startswith("_") for part in parts):
            names.append(".".join(parts))
    return names


def make_pages(*_: object) -> None:
    """Copy the pages from outside, and write a page for every module."""
    shutil.rmtree(MADE, ignore_errors=True)
    sources = [ROOT / name for name in OUTSIDE]
    sources += sorted((ROOT / "benchmarks").glob("*.md"))
    for path in sources:
        source = path.relative_to(ROOT).as_posix()
        page = MADE / source
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(relink(path.read_text("utf-8"), source, f"made/{source}"))
    (MADE / "api").mkdir()
    for name in modules():
        (MADE / "api" / f"{name}.rst").write_text(page_of(name))
    (MADE / "api" / "index.md").write_text(index_of(modules()))


def page_of(module: str) -> str:
    """Return the page of a module."""
    line = "=" * len(module)
    return f"{module}\n{line}\n\n.. automodule:: enformer_features.{module}\n"


def index_of(names: list[str]) -> str:
    """Return the page that lists the modules, room by room."""
    rooms: dict[str, list[str]] = {}
    for name in names:
        rooms.setdefault(name.split(".")[0], []).append(name)
    text = (
        "# API by module\n\n[The architecture](../../architecture.md) says what each "
        "room is for. `enformer_features` itself\nhas these names:\n\n" + public_names()
    )
    for room, inside in rooms.items():
        listed = "\n".join(inside)
        text += f"\n## {room}\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"
    return text


def public_names() -> str:
    """Return a table of the names of the package, each with its first line."""
    lines = ["| name | |", "| ---- | - |"]
    for name in enformer_features.__all__:
        value = getattr(enformer_features, name)
        first = (inspect.getdoc(value) or "").split("\n")[0]
        first = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", first)
        lines.append(f"| {{py:obj}}`~{value.__module__}.{name}` | {first} |")
    return "\n".join(lines) + "\n"


def relink_page(_: object, page: str, source: list[str]) -> None:
    """Move the links of the pages of this folder, as Sphinx reads them."""
    if not page.startswith("made/"):
        source[0] = relink(source[0], f"docs/{page}.md", f"{page}.md")


def skip_member(_: object, kind: str, name: str, *__: object) -> bool | None:
    """Leave out what scikit-learn gives every estimator for its metadata routing."""
    return True if re.fullmatch(r"set_\w+_request|get_metadata_routing", name) else None


def setup(app: object) -> None:
    """Say when Sphinx is to call the above."""
    app.connect("builder-inited", make_pages)  # type: ignore[attr-defined]
    app.connect("source-read", relink_page)  # type: ignore[attr-defined]
    app.connect("autodoc-skip-member", skip_member)  # type: ignore[attr-defined]
