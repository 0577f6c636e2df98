"""The documentation: its configuration, its gallery, and, slowly, all of it."""

import runpy
import subprocess
import sys
from functools import partial

import pytest

from enformer_features.plotting import plot_logo
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
CONF = runpy.run_path(str(DOCS / "conf.py"))
GALLERY = runpy.run_path(str(REPOSITORY / "examples" / "gallery.py"))["main"]


@pytest.fixture
def gallery():
    return GALLERY.__globals__


@pytest.mark.parametrize(
    ("link", "moved"),
    [
        ("[a](docs/mini.md)", "[a](../mini.md)"),
        ("[a](docs/mini.md#worth)", "[a](../mini.md#worth)"),
        ("[a](CHANGELOG.md)", "[a](CHANGELOG.md)"),
        ("[a](benchmarks/MINI.md)", "[a](benchmarks/MINI.md)"),
        ("[a](examples/gallery.py)", "a"),
        ("[a](benchmarks/none.md)", "a"),
        ("[a](https://doi.org/1)", "[a](https://doi.org/1)"),
        ("![a](docs/figures/x.png)", "![a](../figures/x.png)"),
    ],
)
def test_links_of_the_readme_follow_it_into_the_documentation(link, moved):
    assert CONF["relink"](link, "README.md", "made/README.md") == moved


def test_links_out_of_the_pages_lead_to_the_copies():
    page = "[a](../README.md), [b](../benchmarks/MINI.md), [c](coordinates.md#edges)"
    assert CONF["relink"](page, "docs/mini.md", "mini.md") == (
        "[a](made/README.md), [b](made/benchmarks/MINI.md), [c](coordinates.md#edges)"
    )


def test_every_public_module_has_a_page_and_is_listed_once():
    names = CONF["modules"]()
    assert {"genomics.windows", "plotting.tracks", "cli.embed"} <= set(names)
    assert not [name for name in names if "._" in name or name.startswith("_")]
    index = CONF["index_of"](names).splitlines()
    assert sorted(line for line in index if line in names) == sorted(names)
    page = CONF["page_of"]("genomics.windows")
    assert ".. automodule:: enformer_features.genomics.windows" in page


def test_the_gallery_page_is_what_the_script_writes(gallery):
    page = (DOCS / "gallery" / "gallery.md").read_text("utf-8")
    sections = "".join(map(gallery["section_of"], gallery["FIGURES"]))
    assert page == gallery["INTRODUCTION"] + sections, "run make docs"


def test_every_figure_of_the_gallery_has_a_picture_and_says_what_to_see(gallery):
    for figure in gallery["FIGURES"]:
        picture = DOCS / "gallery" / f"{figure.__name__}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert figure.__doc__.startswith("Look ")


def test_the_gallery_is_drawn(gallery, tmp_path, monkeypatch):
    """With few genes, and the captions as they are."""
    few = partial(gallery["make_toy_genome"], chromosome_length_bp=30_000)
    small = lambda folder, **sizes: few(folder, **sizes | {"genes_per_chromosome": 4})  # noqa: E731
    monkeypatch.setitem(gallery, "make_toy_genome", small)
    monkeypatch.setattr(sys, "argv", ["gallery", "--out", str(tmp_path)])
    GALLERY()
    assert len(list(tmp_path.glob("*.png"))) == len(gallery["FIGURES"])
    with pytest.raises(SystemExit, match=r"^error: .*exists"):
        GALLERY()


def test_a_picture_that_looks_the_same_is_left_alone(gallery, tmp_path):
    path = tmp_path / "figure.png"
    for title, is_written in (("a", True), ("a", False), ("b", True)):
        before = path.stat().st_mtime_ns if path.exists() else None
        gallery["save"](plot_logo([[1, 0, 0, 0]], chrom=title).figure, path)
        assert (path.stat().st_mtime_ns != before) == is_written


@pytest.mark.slow
def test_the_documentation_is_built_without_warnings(tmp_path):
    pytest.importorskip("sphinx", reason="the extra 'docs' is not installed")
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    done = subprocess.run(
        [*sphinx, "-d", tmp_path / "trees", DOCS, tmp_path / "html"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cookbook = (tmp_path / "html" / "cookbook.html").read_text("utf-8")
    assert "Which bin is my gene?" in cookbook
    api = tmp_path / "html" / "made" / "api" / "genomics.windows.html"
    assert "sequence_length" in api.read_text("utf-8")
