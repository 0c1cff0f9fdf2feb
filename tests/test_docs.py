"""The pages in docs/: what they name is there, and no notebook is left out of the review."""

import re

import nbformat
import pytest

from trlm_utils.files import PROJECT_ROOT

DOCS = PROJECT_ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
REVIEW = DOCS / "beside_the_best.md"
NOTEBOOKS = sorted((PROJECT_ROOT / "notebooks").glob("*.ipynb"))
LINK = re.compile(r"\[[^]]*\]\(([^)#]+)[^)]*\)")
FILE = re.compile(r"`((?:docs|figures|notebooks|tests|tools|trlm_utils)/[^`\s]*)`")
CITED = re.compile(r"\]\(\.\./notebooks/(\w+)\.ipynb\)((?:,? (?:and )?\*[^*]+\*)+)")
VERDICTS = {"better", "level", "still lost"}
page = pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])


def headings(stem):
    """Titles of a notebook's sections, of all levels."""
    cells = nbformat.read(PROJECT_ROOT / "notebooks" / f"{stem}.ipynb", as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return {line.lstrip("#").strip() for line in text.splitlines() if re.match("#+ ", line)}


@page
def test_links_lead_somewhere(path):
    targets = LINK.findall(path.read_text(encoding="utf-8"))
    local = [target for target in targets if not target.startswith("https://")]
    assert local
    assert [target for target in local if not (path.parent / target).exists()] == []


@page
def test_files_that_are_named_exist(path):
    named = FILE.findall(path.read_text(encoding="utf-8"))
    assert [name for name in named if not (PROJECT_ROOT / name).exists()] == []


def test_the_review_links_every_notebook_and_no_other():
    linked = re.findall(r"\]\(\.\./notebooks/(\w+\.ipynb)\)", REVIEW.read_text(encoding="utf-8"))
    assert set(linked) == {path.name for path in NOTEBOOKS}


def test_the_review_names_the_weakest_point_of_every_notebook():
    text = REVIEW.read_text(encoding="utf-8")
    listed = re.findall(r"^- \[(\w+)\]\(\.\./notebooks/\1\.ipynb\): \S", text, re.MULTILINE)
    assert listed == [path.stem for path in NOTEBOOKS]


def test_sections_that_the_review_cites_are_in_their_notebooks():
    cited = CITED.findall(REVIEW.read_text(encoding="utf-8"))
    assert cited
    found = [(stem, title) for stem, group in cited for title in re.findall(r"\*([^*]+)\*", group)]
    assert [(stem, title) for stem, title in found if title not in headings(stem)] == []


def test_every_row_of_the_review_has_one_of_three_verdicts():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in REVIEW.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith(("| ---", "| point |", "| short |"))
    ]
    judged = [row for row in rows if len(row) == 4]
    assert len(judged) > 40
    assert [row[0] for row in judged if row[2] not in VERDICTS or not (row[1] and row[3])] == []


def test_the_review_is_short():
    assert len(REVIEW.read_text(encoding="utf-8").splitlines()) <= 200
