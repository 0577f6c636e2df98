"""Pages in a real browser, as wide as a desk and as narrow as a phone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from enformer_features import Evaluation
from enformer_features.report.evaluation import evaluation_page
from enformer_features.report.explanation import Explanation, explain_page
from enformer_features.report.logo import Letters, letter_shapes, logo
from enformer_features.report.page import Page
from tests.report.browser import DESKTOP, PHONE, Browser

Size = tuple[int, int]
both_sizes = pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desk", "phone"])
SHOWN = "(() => { const p = document.querySelector('.logo input').value.split(/[:-]/); "
SHOWN += "return [Number(p[1]) - 1, Number(p[2])]; })()"
DRAWN = "document.querySelector('.logo svg').dataset.drawn"


@pytest.fixture(scope="module")
def explained(
    explanation: Explanation, tmp_path_factory: pytest.TempPathFactory
) -> str:
    file = tmp_path_factory.mktemp("pages") / "explanation.html"
    return explain_page(explanation, file).as_uri()


@pytest.fixture(scope="module")
def evaluated(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("pages") / "evaluation.html"
    return evaluation_page(evaluation, file).as_uri()


def check_page(chromium: Browser, url: str, size: Size) -> None:
    """No script fails, nothing is fetched, nothing sticks out, pictures are there."""
    assert chromium.errors == []
    assert chromium.requests == [url]
    assert chromium.run("innerWidth") == size[0]
    root = "document.documentElement"
    assert chromium.run(f"{root}.scrollWidth <= {root}.clientWidth")
    assert chromium.run("[...document.images].every((i) => i.naturalWidth > 100)")
    policy = "fetch('https://example.org').then(() => 'got', () => 'refused')"
    assert chromium.run(policy) == "refused"
    assert "Content Security Policy" in chromium.errors[0]


@both_sizes
def test_an_evaluation_opens_without_errors_and_is_sorted_by_a_click(
    chromium: Browser, evaluated: str, size: Size
) -> None:
    chromium.open(evaluated, size)
    check_page(chromium, evaluated, size)
    heading = "section:nth-of-type(4) table thead th:nth-child(2)"
    values = (
        "[...document.querySelectorAll('section:nth-of-type(4) table')[0].tBodies[0]"
        ".rows].map((row) => Number(row.cells[1].dataset.value))"
    )
    chromium.click(f"{heading} button")
    ascending = chromium.run(values)
    assert ascending == sorted(ascending)
    assert len(set(ascending)) > 2
    chromium.click(f"{heading} button")
    assert chromium.run(values) == ascending[::-1]
    said = f"document.querySelector('{heading}').getAttribute('aria-sort')"
    assert chromium.run(said) == "descending"


@both_sizes
def test_an_explanation_opens_with_readable_letters(
    chromium: Browser, explained: str, size: Size
) -> None:
    chromium.open(explained, size)
    check_page(chromium, explained, size)
    start, end = chromium.run(SHOWN)
    assert chromium.run(DRAWN) == "letters"
    assert 0 < chromium.run("document.querySelectorAll('#region-1 .letter').length")
    assert end - start <= 120


@both_sizes
def test_buttons_zoom_in_and_out_and_letters_become_bars(
    chromium: Browser, explained: str, size: Size
) -> None:
    chromium.open(explained, size)
    start, end = chromium.run(SHOWN)
    chromium.click("#region-1 [data-do='zoom-in']")
    closer = chromium.run(SHOWN)
    assert closer[1] - closer[0] == pytest.approx((end - start) / 2, abs=1)
    assert start < closer[0] < closer[1] < end
    chromium.click("#region-1 [data-do='all']")
    whole = chromium.run(SHOWN)
    assert whole[1] - whole[0] == 2048
    assert chromium.run(DRAWN) == "bars"
    assert chromium.run("document.querySelectorAll('#region-1 rect.up').length") > 10
    chromium.click("#region-1 [data-do='home']")
    assert chromium.run(SHOWN) == [start, end]
    assert chromium.errors == []


def test_the_wheel_zooms_at_the_mouse_and_dragging_moves(
    chromium: Browser, explained: str
) -> None:
    chromium.open(explained, DESKTOP)
    start, end = chromium.run(SHOWN)
    x, y = chromium.middle("#region-1 svg")
    scroll = {"deltaX": 0, "deltaY": -100, "modifiers": 2}
    chromium.mouse("mouseWheel", x, y, **scroll)
    chromium.wait(f"{SHOWN}[1] - {SHOWN}[0] < {end - start}")
    low, high = chromium.run(SHOWN)
    assert (low + high) / 2 == pytest.approx((start + end) / 2, abs=2)
    chromium.drag("#region-1 svg", 200)
    moved = chromium.run(SHOWN)
    assert moved[0] < low
    assert moved[1] - moved[0] == high - low
    assert chromium.errors == []


def test_two_fingers_zoom_on_a_phone(chromium: Browser, explained: str) -> None:
    chromium.open(explained, PHONE)
    start, end = chromium.run(SHOWN)
    chromium.pinch("#region-1 svg", 2.0)
    closer = chromium.run(SHOWN)
    assert closer[1] - closer[0] == pytest.approx((end - start) / 2, abs=2)
    assert chromium.errors == []


def test_the_address_keeps_the_place_and_brings_it_back(
    chromium: Browser, explained: str
) -> None:
    chromium.open(explained, DESKTOP)
    chromium.click("#region-1 [data-do='zoom-in']")
    place = chromium.run(SHOWN)
    address = chromium.run("location.href")
    assert address.endswith(f"#region-1:{place[0] + 1}-{place[1]}")
    chromium.open(address, DESKTOP)
    assert chromium.run(SHOWN) == place


def test_a_segment_is_shown_by_its_button(chromium: Browser, explained: str) -> None:
    chromium.open(explained, DESKTOP)
    button = "section:nth-of-type(2) tbody tr:nth-child(3) button.go"
    data = f"Object.values(document.querySelector('{button}').dataset).slice(1)"
    start, end = map(int, chromium.run(data))
    chromium.click(button)
    low, high = chromium.run(SHOWN)
    assert (low + high) / 2 == pytest.approx((start + end) / 2, abs=1)
    assert high - low == 40


def test_a_place_is_typed_and_another_window_refused(
    chromium: Browser, explained: str
) -> None:
    chromium.open(explained, DESKTOP)
    start, _ = chromium.run(SHOWN)

    def enter(text: str) -> str:
        place = "document.querySelector('#region-1 input')"
        chromium.run(f"{place}.value = '{text}'")
        chromium.run(f"{place}.dispatchEvent(new Event('change'))")
        return str(
            chromium.run("document.querySelector('#region-1 .readout').textContent")
        )

    assert f"chr1:{start + 1:,}-{start + 30:,} (1-based), 30 bp" in enter(
        f"chr1:{start + 1}-{start + 30}"
    )
    for text in ("chr7:1-100", "nonsense"):
        assert "is no part of chr1:" in enter(text)
    kept = f"#region-1:{start + 1}-{start + 30}"
    assert chromium.run("location.hash") == kept


def test_nonsense_is_refused_where_the_window_begins_before_its_contig(
    chromium: Browser, address: Path
) -> None:
    shapes = {"letters": letter_shapes()}
    letters = Letters("chr1", -20, "A" * 100, np.ones(100))
    page = Page("page", [logo("region-1", letters, (10, 40))], shapes)
    chromium.open(page.write(address).as_uri(), DESKTOP)
    drawn = "document.querySelector('svg').getAttribute('aria-label')"
    before = chromium.run(drawn)
    field = "document.querySelector('#region-1 input')"
    chromium.run(f"{field}.value = 'nonsense'")
    chromium.run(f"{field}.dispatchEvent(new Event('change'))")
    said = chromium.run("document.querySelector('#region-1 .readout').textContent")
    assert said.startswith("nonsense is no part of chr1:")
    assert chromium.run(drawn) == before == "scores of chr1:11-40"


def test_a_link_into_a_page_goes_to_its_letters(
    chromium: Browser, explained: str
) -> None:
    chromium.open(f"{explained}#region-2:1-40", DESKTOP)
    place = "document.querySelector('#region-2').getBoundingClientRect().top"
    assert 0 <= chromium.run(place) < DESKTOP[1]


def test_keys_zoom_and_move(chromium: Browser, explained: str) -> None:
    chromium.open(explained, DESKTOP)
    start, end = chromium.run(SHOWN)
    chromium.run("document.querySelector('#region-1 svg').focus()")
    for key, text in (("+", "+"), ("ArrowRight", "")):
        chromium.send("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
    low, high = chromium.run(SHOWN)
    assert high - low == pytest.approx((end - start) / 2, abs=1)
    assert low > start + (end - start) / 4


def test_a_picture_of_the_page_is_not_blank(
    chromium: Browser, explained: str, tmp_path: Path
) -> None:
    from matplotlib.image import imread

    chromium.open(explained, PHONE)
    chromium.picture(tmp_path / "phone.png")
    pixels = imread(tmp_path / "phone.png")
    assert pixels.shape[:2] == (844, 390)
    assert pixels[..., :3].std() > 0.05


def test_an_address_that_is_not_ours_breaks_nothing(
    chromium: Browser, explained: str
) -> None:
    chromium.open(f"{explained}#100%", DESKTOP)
    assert chromium.errors == []
    assert chromium.run(DRAWN) in ("letters", "bars")
