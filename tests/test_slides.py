"""Slides: what goes on which, and that nothing has to be fetched."""

import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import slides
from trlm_utils.files import CourseError

PIXEL = "iVBORw0KGgo="


def cell(source, *outputs):
    return new_code_cell(source, outputs=list(outputs))


def printed(text):
    return new_output("stream", name="stdout", text=text)


def test_a_section_is_a_column_and_parameters_are_left_out():
    cells = [
        new_markdown_cell("# Title\n\nWhy."),
        new_markdown_cell("## Parameters"),
        cell("LR = 1", printed("left out")),
        new_markdown_cell("## First\n\nOne.\n\n## Second"),
        cell("print(2)", printed("2\n")),
    ]
    found = slides.sections(cells)
    assert [len(section) for section in found] == [1, 1, 1]
    assert "left out" not in str(found)
    assert "First" in found[1][0] and "Second" in found[2][0]
    assert re.search(r'class="output">2</pre>', found[2][0])


def test_a_picture_has_a_slide_to_itself_and_its_code_is_not_shown():
    picture = new_output("display_data", data={"image/png": PIXEL})
    section = slides.sections([new_markdown_cell("## Plot\n\nLook."), cell("draw()", picture)])[0]
    assert len(section) == 2
    assert "draw" not in section[1] and f"base64,{PIXEL}" in section[1]


def test_long_output_is_cut_and_long_code_left_out():
    source = "\n".join(f"x{i} = {i}" for i in range(40))
    pieces = slides.code_pieces(cell(source, printed("\n".join(map(str, range(99))))))
    assert len(pieces) == 1
    assert pieces[0].count("\n") == slides.LONGEST_OUTPUT - 1 and "..." in pieces[0]


def test_pieces_share_a_slide_until_it_is_full():
    text = "<p>" + "word " * 60 + "</p>"  # 300 characters: five lines of 45 pixels
    assert slides.height(text) == 225
    found = slides.pack("T", [text] * 4)
    assert [slide.count("<p>") for slide in found] == [2, 2]
    assert "T" not in found[0] and 'class="section">T<' in found[1]


def test_formulas_become_mathml_and_stay_out_of_the_markdown():
    page = slides.markdown("The *sum* $a_i * b_i$ and $$\\frac{1}{2}$$")
    assert page.count("<math") == 2 and "<mfrac>" in page and "<em>sum</em>" in page
    assert "$" not in page and "<em>" not in re.findall(r"<math.*?</math>", page)[0]


def test_one_file_that_fetches_nothing(tmp_path):
    import nbformat

    notebook = new_notebook(cells=[new_markdown_cell("# Title\n\nWhy $x$.")])
    nbformat.write(notebook, tmp_path / "n.ipynb")
    page = slides.export(tmp_path / "n.ipynb", tmp_path / "out").read_text()
    assert "Reveal.initialize" in page and "reveal.js 5" in page
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=.https?:", page)
    assert "@import" not in page


def test_what_is_missing_is_said_in_one_line(monkeypatch, capsys):
    assert slides.main(["05_nope"]) == 2
    assert "no notebook notebooks/05_nope.ipynb" in capsys.readouterr().err
    monkeypatch.setattr(slides, "find_spec", lambda name: None)
    with pytest.raises(CourseError, match="pip install -e '.\\[slides\\]'"):
        slides._reveal()
