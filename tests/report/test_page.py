"""Pages hold everything they show, and whatever is in a text stays text."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from enformer_features.exceptions import InputError
from enformer_features.plotting import plot_logo
from enformer_features.report.logo import Letters, Mark, letter_shapes, logo
from enformer_features.report.page import Page, bullets, cautions, picture, table


def test_a_page_forbids_the_browser_to_fetch_anything() -> None:
    text = Page("Empty").to_html()
    assert "default-src 'none'; img-src data:;" in text
    assert '<html lang="en">' in text
    assert 'name="viewport"' in text
    assert not re.search(r'(src|href)="(?!#|data:)', text)


def test_sections_are_listed_and_those_without_parts_left_out() -> None:
    page = Page("Two")
    page.section("First", "<p>a</p>")
    page.section("Nothing", "", "")
    page.section("Second", "<p>b</p>")
    text = page.to_html()
    assert text.count('<a href="#section-') == 2
    assert '<h2 id="section-2">Second</h2>' in text
    assert "Nothing" not in text


def test_names_cannot_become_markup_or_end_a_script() -> None:
    rude = "</script><b>&\"'"
    page = Page(rude, data={"names": [rude]})
    page.add(table(pd.DataFrame({rude: [rude]}), rude), bullets([rude]))
    page.add(cautions([rude]))
    text = page.to_html()
    assert "<b>" not in text
    assert text.count("</script>") == 2
    found = re.search(r'id="names">(.*?)</script>', text)
    assert found is not None
    assert json.loads(found[1]) == [rude]


def test_numbers_are_rounded_for_reading_and_whole_for_sorting() -> None:
    rows = pd.DataFrame(
        {"n": [12345, 2], "score": [0.123456, np.nan], "is": [True, False]}
    )
    text = table(rows)
    assert '<td class="number" data-value="12345">12,345</td>' in text
    assert '<td class="number" data-value="0.123456">0.1235</td>' in text
    assert '<td class="number" data-value="">-</td>' in text
    assert '<td class="word">yes</td>' in text


def test_long_tables_are_cut_and_say_so() -> None:
    text = table(pd.DataFrame({"n": range(1_200)}), "Many.")
    assert text.count("<tr>") == 501
    assert "Many. The first 500 of 1,200 rows." in text


def test_pictures_are_inside_and_the_same_every_time() -> None:
    drawn = [
        picture(plot_logo(np.eye(4)).figure, "a logo", "Look.", dots=dots)
        for dots in (False, False, True)
    ]
    assert drawn[0] == drawn[1]
    assert 'src="data:image/svg+xml;base64,' in drawn[0]
    assert 'src="data:image/png;base64,' in drawn[2]
    assert 'alt="a logo"' in drawn[0]
    assert "<figcaption>Look.</figcaption>" in drawn[0]


def test_a_page_that_is_there_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    Page("One").write(file)
    with pytest.raises(InputError, match="exists"):
        Page("Two").write(file)
    Page("Two").write(file, overwrite=True)
    assert "<h1>Two</h1>" in file.read_text("utf-8")


def test_a_logo_holds_letters_scores_and_marks() -> None:
    letters = Letters("chr1", 100, "ACGN", np.array([1.0, -0.5, np.nan, 0.0]))
    text = logo("region-1", letters, (100, 104), [Mark(101, 102, "TSS", "#000000")])
    found = re.search(r'<script type="application/json">(.*?)</script>', text)
    assert found is not None
    data = json.loads(found[1])
    steps = np.frombuffer(base64.b64decode(data["scores"]), "<i2")
    assert np.allclose(steps * data["scale"], [1.0, -0.5, 0.0, 0.0], atol=1e-4)
    assert (data["letters"], data["start"]) == ("ACGN", 100)
    assert data["marks"][0]["label"] == "TSS"


def test_letters_are_closed_outlines_in_the_unit_square() -> None:
    shapes = letter_shapes()
    assert list(shapes) == list("ACGT")
    for shape in shapes.values():
        assert re.fullmatch(r"(M[^MZ]+Z)+", shape["path"])
        numbers = np.array(re.findall(r"[\d.]+", shape["path"]), dtype=float)
        assert numbers.min() == 0.0
        assert numbers.max() == 1.0
