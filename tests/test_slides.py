"""Slides: what goes on which, and that nothing has to be fetched."""

import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import slides
from trlm_utils.files import PROJECT_ROOT, CourseError

NOTEBOOKS = PROJECT_ROOT / "notebooks"
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
    kinds = [[c.metadata.get("slideshow", {}).get("slide_type") for c in part] for part in found]
    assert kinds == [["slide"], ["slide"], ["slide", None, None]]
    assert "left out" not in str(found)
    assert "First" in found[1][0].source and "Second" in found[2][0].source
    assert found[2][1].source == "print(2)" and not found[2][1].outputs
    assert found[2][2].outputs[0].data == {"text/plain": "2"}


def test_a_picture_has_a_slide_to_itself_and_its_code_is_not_shown():
    picture = new_output("display_data", data={"image/png": PIXEL})
    section = slides.sections([new_markdown_cell("## Plot\n\nLook."), cell("draw()", picture)])[0]
    caption, shown = section[1:]
    assert caption.metadata.slideshow.slide_type == "subslide" and ">Plot<" in caption.source
    assert shown.outputs[0].data == {"image/png": PIXEL}
    assert "draw" not in str(section)


def test_long_output_is_cut_and_long_code_left_out():
    source = "\n".join(f"x{i} = {i}" for i in range(40))
    (found,) = slides.code_cells(cell(source, printed("\n".join(map(str, range(99))))))
    lines = found.outputs[0].data["text/plain"].split("\n")
    assert lines == [*map(str, range(slides.LONGEST_OUTPUT - 1)), "..."]


def test_pieces_share_a_slide_until_it_is_full():
    text = "word " * 60  # 300 characters: five lines of 45 pixels
    assert slides.height(new_markdown_cell(text)) == 225
    found = slides.paged("T", [new_markdown_cell(text) for _ in range(4)])
    kinds = [c.metadata.get("slideshow", {}).get("slide_type", "-") for c in found]
    assert kinds == ["slide", "-", "subslide", "-", "-"]
    assert found[2].source == '<div class="section">T</div>'


def test_formulas_become_mathml_and_stay_out_of_the_markdown():
    page = slides.markdown("The *sum* $a_i * b_i$ and $$\\frac{1}{2}$$")
    assert page.count("<math") == 2 and "<mfrac>" in page and "<em>sum</em>" in page
    assert "$" not in page and "<em>" not in re.findall(r"<math.*?</math>", page)[0]


def test_one_file_that_fetches_nothing(tmp_path):
    import nbformat

    shown = cell("print('<b>')", printed("<b>"))
    notebook = new_notebook(cells=[new_markdown_cell("# Title\n\nWhy $x$."), shown])
    nbformat.write(notebook, tmp_path / "n.ipynb")
    page = slides.export(tmp_path / "n.ipynb", tmp_path / "out").read_text()
    assert "Reveal.initialize" in page and "reveal.js 5" in page
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=.https?:", page)
    assert "@import" not in page
    assert page.count("<section") == 2  # a column of one slide
    assert page.count('class="cm-editor') == 1  # an output has no empty code above it
    assert "<mi>x</mi>" in page and "&lt;b&gt;" in page and "<b>" not in page


def test_a_drawn_picture_is_in_the_file_beside_its_sentence(tmp_path):
    import base64

    import nbformat

    (tmp_path / "p.svg").write_text("<svg/>")
    text = "# T\n\nWhy.\n\n" + "long " * 90 + "\n\nLook.\n\n![what it shows](p.svg)\n\nThen."
    sentence = slides.sections([new_markdown_cell(text)])[0][3]
    assert sentence.source == "Look.\n\n![what it shows](p.svg)"
    nbformat.write(new_notebook(cells=[new_markdown_cell(text)]), tmp_path / "n.ipynb")
    page = slides.export(tmp_path / "n.ipynb", tmp_path / "out").read_text()
    inside = base64.b64encode(b"<svg/>").decode()
    (image,) = re.findall('<img[^>]*src="data[^>]*>', page)
    assert f'src="data:image/svg+xml;base64,{inside}"' in image and 'alt="what it shows"' in image


def test_pictures_of_an_executed_copy_are_those_of_the_notebook(tmp_path):
    link = '<img src="../figures/pictures/dpo.svg" />'
    assert "base64" in slides.embedded(link, tmp_path)
    with pytest.raises(CourseError, match="no picture nope.svg"):
        slides.embedded('<img src="nope.svg" />', tmp_path)
    data = '<img src="data:image/png;base64,aaaa" />'
    assert slides.embedded(data, tmp_path) == data


def test_a_saved_figure_is_shown_as_svg(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "loss.svg").write_text("<svg/>")
    picture = new_output("display_data", data={"image/png": PIXEL})
    plot = 'figure = plot(log, "other")\nstage.save_figure(figure, "loss", log)'
    (shown,) = slides.code_cells(cell(plot, picture), tmp_path)
    assert shown.outputs[0].data == {"image/svg+xml": "<svg/>"}
    assert slides.height(shown) == slides.PAGE
    (kept,) = slides.code_cells(cell(plot, picture, picture), tmp_path)[:1]  # which is which?
    assert kept.outputs[0].data == {"image/png": PIXEL}
    (kept,) = slides.code_cells(cell('draw("loss")', picture), tmp_path)
    assert kept.outputs[0].data == {"image/png": PIXEL}


TALK = """# Title

Why $x$.

Note:
Say why.

---

![what it shows](../figures/ladder.svg)

Note:
Look at the *left*.
"""


def test_a_talk_is_slides_with_notes_of_their_own(tmp_path):
    found = slides.talk(TALK).cells
    kinds = [c.metadata.slideshow.slide_type for c in found]
    assert kinds == ["slide", "notes", "slide", "notes"]
    assert [c.source for c in found[:2]] == ["# Title\n\nWhy $x$.", "Say why."]
    (tmp_path / "t.md").write_text(TALK)
    page = slides.export(tmp_path / "t.md", tmp_path / "out").read_text()
    assert page.count('<aside class="notes">') == 2 and "plugins: [RevealNotes]" in page
    assert 'class="figure" src="data:image/svg+xml;base64,' in page  # as tall as a figure
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=.https?:", page)


def test_a_slide_without_notes_is_refused():
    with pytest.raises(CourseError, match="slide 2 of the talk has no speaker notes"):
        slides.talk("One\n\nNote:\nSay it.\n---\nTwo\n")


def test_the_talk_has_ten_slides_whose_figures_are_there_and_no_figure_of_its_own():
    """Its numbers stand in the figures, whose titles are computed; in the text they would rot."""
    place = PROJECT_ROOT / "docs" / "talk.md"
    text = place.read_text(encoding="utf-8")
    cells = slides.talk(text).cells
    assert len(cells) == 2 * 10
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", text)
    assert len(pictures) == 10 and all((place.parent / name).is_file() for name in pictures)
    said = re.sub(r"\]\(.*?\)|notebook \d\d|[Ss]tage \d|0\.14 million", "", text)
    said = re.sub(r"!\[.*", "", said)  # what a picture shows
    assert re.findall(r"\d[\d.,]*", said) == []


@pytest.mark.parametrize("name", sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb")))
def test_no_figure_of_a_notebook_is_shown_with_fewer_colours(name):
    import nbformat

    found = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    small = [
        c for part in slides.sections(found) for c in part for o in c.get("outputs", ())
        if "image/png" in o.get("data", {})
    ]  # fmt: skip
    assert not small


def test_what_is_missing_is_said_in_one_line(monkeypatch, capsys, tmp_path):
    assert slides.main(["05_nope"]) == 2
    assert "no notebook notebooks/05_nope.ipynb" in capsys.readouterr().err
    assert slides.main(["nope.md"]) == 2 and "no talk nope.md" in capsys.readouterr().err
    (tmp_path / "cut.ipynb").write_text('{"cells": [')
    assert slides.main([str(tmp_path / "cut.ipynb")]) == 2
    assert "cut.ipynb is not a notebook" in capsys.readouterr().err
    monkeypatch.setattr(slides, "find_spec", lambda name: None)
    with pytest.raises(CourseError, match="pip install -e '.\\[slides\\]'"):
        slides._reveal()
