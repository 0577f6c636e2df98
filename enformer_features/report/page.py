"""Pages that stand alone: one HTML file with its pictures, style and script inside.

A page refers to nothing outside itself, and its policy forbids the browser to fetch
anything, so that it shows the same without a network and in ten years.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from enformer_features import __version__
from enformer_features.storage.files import atomic_write, check_output

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
MANY_ROWS = 500


@dataclass
class Page:
    """A page that is being put together.

    Parameters
    ----------
    title : str
    parts : list of str
        HTML of what stands below the title, in order.
    data : dict of str to object
        What the script reads, by the id under which it looks for it; JSON values.

    Examples
    --------
    >>> page = Page("Two <genes>")
    >>> page.section("Tracks", paragraph("none"))
    >>> "<h1>Two &lt;genes&gt;</h1>" in page.to_html()
    True
    """

    title: str
    parts: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    _headings: list[str] = field(default_factory=list)

    def add(self, *parts: str) -> None:
        """Add HTML that belongs to no section."""
        self.parts += parts

    def section(self, title: str, *parts: str) -> None:
        """Add a section, and a line to the contents; without parts there is none."""
        if not any(parts):
            return
        self._headings.append(title)
        name = f"section-{len(self._headings)}"
        heading = f'<h2 id="{name}">{escape(title)}</h2>'
        self.parts += [f'<section aria-labelledby="{name}">', heading, *parts]
        self.parts.append("</section>")

    def to_html(self) -> str:
        """Return the whole page."""
        contents = "".join(
            f'<li><a href="#section-{number}">{escape(title)}</a></li>'
            for number, title in enumerate(self._headings, 1)
        )
        data = "".join(_script_data(name, value) for name, value in self.data.items())
        body = [
            f"<header><h1>{escape(self.title)}</h1>",
            f'<nav aria-label="contents"><ul>{contents}</ul></nav></header>',
            f"<main>{''.join(self.parts)}</main>",
            f'<footer class="soft"><p>enformer_features {__version__}</p></footer>',
            data,
            f"<script>{_asset('page.js')}</script>",
        ]
        head = [
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{escape(self.title)}</title>",
            f"<style>{_asset('page.css')}</style>",
        ]
        lines = ["<!DOCTYPE html>", '<html lang="en">', "<head>", *head, "</head>"]
        lines += ["<body>", *body, "</body>", "</html>"]
        return "\n".join(lines) + "\n"

    def write(self, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the page, whole or not at all.

        Raises
        ------
        InputError, StoreError
            When the file is there already, or cannot be written.
        """
        target = check_output(path, overwrite=overwrite)
        text = self.to_html()
        with atomic_write(target, bytes_needed=len(text)) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return target


def escape(value: object) -> str:
    """Return text that HTML shows as it is."""
    return html.escape(str(value), quote=True)


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def bullets(lines: Iterable[str]) -> str:
    """Return a list, or nothing for no lines."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def cautions(lines: Sequence[str], *, n_loud: int = 0) -> str:
    """Return a box of what a reader must know; the first lines may be loud."""
    items = "".join(
        f'<li class="loud">{escape(line)}</li>'
        if number < n_loud
        else f"<li>{escape(line)}</li>"
        for number, line in enumerate(lines)
    )
    return f'<aside class="cautions" aria-label="cautions"><ul>{items}</ul></aside>'


def picture(figure: Any, alt: str, caption: str, *, dots: bool = False) -> str:
    """Return a figure of matplotlib, within the page.

    Parameters
    ----------
    figure : matplotlib Figure
    alt : str
        What it shows, for those who do not see it.
    caption : str
        What a reader should look for.
    dots : bool, default=False
        Whether it has thousands of dots, which take less room as pixels.
    """
    from matplotlib import rc_context

    kind = "png" if dots else "svg"
    content = io.BytesIO()
    steady: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with rc_context({"svg.hashsalt": "enformer_features"}):
        figure.savefig(content, format=kind, dpi=144, metadata=steady)
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    text = base64.b64encode(content.getvalue()).decode("ascii")
    width = round(96 * float(figure.get_figwidth()))
    image = (
        f'<img src="data:{mime};base64,{text}" alt="{escape(alt)}" width="{width}" '
        f'style="min-width:min({width}px,34rem)">'
    )
    shown = f"<figcaption>{escape(caption)}</figcaption>"
    return f'<figure><div class="scroll">{image}</div>{shown}</figure>'


def table(
    rows: pd.DataFrame,
    caption: str = "",
    *,
    extra: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return a table that is sorted by a click on a heading.

    Parameters
    ----------
    rows : DataFrame
        Its columns; the index is not shown. At most 500 rows, which the caption says.
    caption : str, default=""
    extra : mapping of str to sequence of str, optional
        Columns of HTML behind the others, one entry per row.

    Examples
    --------
    >>> text = table(pd.DataFrame({"gene": ["a"], "score": [0.12345]}))
    >>> '<td class="number" data-value="0.12345">0.1235</td>' in text
    True
    """
    if len(rows) > MANY_ROWS:
        caption = f"{caption} The first {MANY_ROWS} of {len(rows):,} rows.".strip()
    shown = rows.iloc[:MANY_ROWS]
    numeric = [_is_numeric(shown[name]) for name in shown]
    others = extra or {}
    kinds = ["number" if number else "text" for number in numeric]
    heads = [
        f'<th scope="col" class="{kind}">{escape(name)}</th>'
        for name, kind in zip(shown.columns, kinds, strict=True)
    ]
    body = []
    for row, values in enumerate(shown.itertuples(index=False, name=None)):
        cells = [_cell(v, number) for v, number in zip(values, numeric, strict=True)]
        cells += [f"<td>{column[row]}</td>" for column in others.values()]
        body.append(f"<tr>{''.join(cells)}</tr>")
    heads += [f'<th scope="col" class="plain">{escape(name)}</th>' for name in others]
    said = paragraph(caption, "soft") if caption else ""  # not as wide as the table
    return (
        f'{said}<div class="scroll"><table class="sortable">'
        f"<thead><tr>{''.join(heads)}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def record(title: str, values: Mapping[str, Any]) -> str:
    """Return values as JSON, folded away."""
    text = json.dumps(_plain(values), indent=2, sort_keys=True, default=str)
    said = f"<summary>{escape(title)}</summary>"
    return f"<details>{said}<pre>{escape(text)}</pre></details>"


def _plain(value: Any) -> Any:
    """Read JSON that stands in a text, as settings of a network do."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str) and value.startswith("{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _is_numeric(column: pd.Series[Any]) -> bool:
    is_number = pd.api.types.is_numeric_dtype(column)
    return bool(is_number and not pd.api.types.is_bool_dtype(column))


def _cell(value: Any, is_number: bool) -> str:
    if not is_number:
        text = "yes" if value is True else "no" if value is False else str(value)
        kind = "word" if len(text) <= 40 else "long"
        return f'<td class="{kind}">{escape(text)}</td>'
    if not np.isfinite(value):
        return '<td class="number" data-value="">-</td>'
    is_whole = isinstance(value, int | np.integer)
    text = f"{value:,}" if is_whole else f"{value:.4g}"
    return f'<td class="number" data-value="{value}">{text}</td>'


def _script_data(name: str, value: Any) -> str:
    return f'<script type="application/json" id="{name}">{as_json(value)}</script>'


def as_json(value: Any) -> str:
    """Return JSON that may stand in a page: it cannot end the script it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _asset(name: str) -> str:
    place = files("enformer_features.report") / "assets" / name
    return place.read_text(encoding="utf-8")
