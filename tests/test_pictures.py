"""The drawn pictures: rendered from their sources, legible, in the notebooks with alt text."""

import re
from xml.etree import ElementTree

import nbformat
import pytest
import torch

from tools import pictures, publish, shapes
from trlm_utils.files import CourseError
from trlm_utils.rewards import mixes, step_rewards
from trlm_utils.training import ppo, sft

SOURCES = sorted(pictures.PICTURES.glob("*.yaml"))
NOTEBOOKS = sorted(publish.NOTEBOOKS.glob("*.ipynb"))
SLIDE = (1000, 540)  # pixels that a picture may take on a slide, as in slides_template
IMAGE = re.compile(r"!\[([^]]*)\]\(\.\./figures/pictures/([^)]+)\)")
each = pytest.mark.parametrize("path", SOURCES, ids=[p.stem for p in SOURCES])


def source(name):
    return pictures.read(pictures.PICTURES / f"{name}.yaml")


def picture(draw):
    return {"title": "T", "alt": "A.", "height": 100, "draw": draw}


def shown(path):
    """Alt text and file of each picture in a notebook, with the number of its cell."""
    cells = nbformat.read(path, as_version=4).cells
    return [
        (i, *found)
        for i, cell in enumerate(cells)
        if cell.cell_type == "markdown"
        for found in IMAGE.findall(cell.source)
    ]


def test_committed_pictures_are_what_the_sources_render():
    rendered = pictures.pictures()
    committed = {p.name: p.read_text(encoding="utf-8") for p in pictures.PICTURES.glob("*.svg")}
    assert committed == rendered, "run `make pictures`"


@each
def test_text_is_legible_in_a_notebook_and_on_a_slide(path):
    read = pictures.read(path)
    root = ElementTree.fromstring(pictures.render(read))
    sizes = [float(e.get("font-size")) for e in root.iter() if e.tag.endswith("}text")]
    assert (root.get("width"), root.get("viewBox")) == ("700", f"0 0 700 {read['height']}")
    scale = min(SLIDE[0] / shapes.WIDTH, SLIDE[1] / read["height"])
    assert sizes and min(sizes) >= 14 and min(sizes) * scale >= 18


@each
def test_shapes_stay_inside_the_picture(path):
    read = pictures.read(path)
    for element in read["draw"]:
        if len(element.get("at", ())) == 4:
            left, top, width, height = element["at"]
            assert left >= 12 and left + width <= shapes.WIDTH - 12, element
            assert top >= 40 and top + height <= read["height"] - 12, element


@each
def test_a_picture_says_what_it_shows_without_being_seen(path):
    root = ElementTree.fromstring(pictures.render(pictures.read(path)))
    title, told = [root.find(f"{{*}}{tag}").text for tag in ("title", "desc")]
    assert len(title) > 10 and len(told) > 80 and told.endswith(".")
    assert not re.search(r"[]\n[]", told)  # it stands in Markdown, between brackets


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[p.stem for p in NOTEBOOKS])
def test_every_notebook_has_a_picture_with_the_alt_text_of_its_source(path):
    found = shown(path)
    assert found
    for cell, alt, file in found:
        name, _, part = file.removesuffix(".svg").partition("-")
        assert cell > 0 and alt == pictures.alt_text(source(name), part), file


def test_every_picture_stands_in_a_notebook():
    used = {file for path in NOTEBOOKS for _, _, file in shown(path)}
    assert used == set(pictures.pictures())


def test_a_lit_part_is_strong_and_the_others_are_pale():
    draw = [
        {"card": "1 a", "at": [20, 40, 60, 50], "part": "a"},
        {"card": "2 b", "at": [90, 40, 60, 50], "part": "b"},
        {"words": "both", "at": [160, 60]},
    ]
    whole, lit = (pictures.render(picture(draw), part) for part in ("", "b"))
    assert "opacity" not in whole and 'stroke-width="4"' not in whole
    (pale,) = re.findall(r'<g opacity="0.3">(.*?)</g>', lit, re.DOTALL)
    assert "1 a" in pale and "2 b" not in pale and "both" not in pale
    assert lit.count('stroke-width="4"') == 1 and "Lit: b." in lit


@pytest.mark.parametrize(
    "element, said",
    [
        ({"text": "far too long", "at": [20, 40, 60, 30]}, "needs .* its box has 60 x 30"),
        ({"text": "two\nlines", "at": [20, 40, 90, 30]}, "needs"),
        ({"words": "beyond the edge", "at": [650, 40]}, "leaves the picture"),
        ({"words": "tiny", "at": [20, 40], "size": 11}, "14 is the smallest"),
        ({"arrow": "here > nowhere"}, "cannot draw"),
        ({"circle": "no such element"}, "cannot draw"),
        ({"text": "a", "at": [20, 40, 60, 30], "colour": "red"}, "cannot draw"),
    ],
)
def test_what_cannot_be_drawn_well_is_refused(element, said):
    with pytest.raises(CourseError, match=said):
        pictures.render(picture([element]))


@pytest.mark.parametrize(
    "start, end, points",
    [
        ((0, 0, 10, 10), (30, 0, 10, 10), [(13, 5), (27, 5)]),
        ((30, 0, 10, 10), (0, 0, 10, 10), [(27, 5), (13, 5)]),
        ((0, 0, 10, 10), (0, 30, 10, 10), [(5, 13), (5, 27)]),
        ((0, 0, 10, 10), (30, 20, 10, 10), [(13, 5), (20, 5), (20, 25), (27, 25)]),
    ],
    ids=["right", "left", "down", "with two bends"],
)
def test_arrows_lead_from_edge_to_edge(start, end, points):
    assert pictures.between(start, end) == points


def test_the_command_names_what_is_wrong(capsys, monkeypatch, tmp_path):
    assert pictures.main(["nope"]) == 2
    assert "no source figures/pictures/nope.yaml" in capsys.readouterr().err
    monkeypatch.setattr(pictures, "PICTURES", tmp_path)
    (tmp_path / "a.yaml").write_text("title: T\nalt: A.\nheight: 90\ndrawn: []\n")
    assert pictures.main([]) == 2
    assert "missing or unknown: draw, drawn" in capsys.readouterr().err
    (tmp_path / "a.yaml").write_text("title: T\nalt: A.\nheight: 90\ndraw: []\nparts: [b]\n")
    assert pictures.main([]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"a.yaml", "a.svg", "a-b.svg"}


def rows(name, kind):
    return [e for e in source(name)["draw"] if kind in e]


def test_packing_is_drawn_as_the_trainer_does_it():
    """Lengths on the left, packed by `sft.pack`, give the positions on the right."""
    padded, packed = (
        [e["tokens"] for e in rows("packing", "tokens") if (e["at"][0] > 350) == right]
        for right in (False, True)
    )
    lengths = [sum(place != "" for place in row) for row in padded]
    expected = []
    for bin_ in sft.pack(lengths, max(lengths)):
        row = [place for i in bin_ for place in range(lengths[i])]
        expected.append(row + [""] * (max(lengths) - len(row)))
    assert packed == expected


def test_advantages_are_drawn_as_grpo_computes_them():
    for name, rewards in (("advantage", [1, 0, 0, 0]), ("grpo_loop", [0, 1, 0, 1])):
        assert [float(e["number"]) for e in rows(name, "number")] == rewards
        assert [e["bar"] for e in rows(name, "bar")] == mixes.advantages(rewards, scale=False)


def test_credit_is_drawn_as_the_library_gives_it():
    """One token for each step and the answer; the critic's expectations are in the picture."""
    group = [[(0, 1.0), (1, 1.0), (2, 1.0)], [(0, 1.0), (1, 0.0), (2, 0.0)]]
    expected = torch.tensor([[0.5, 0.6, 0.1]])
    critic, _ = ppo.gae(torch.zeros(1, 3), expected, torch.ones(1, 3), 1.0, 0.0)
    summed, worst = (
        credit(group, [3, 3], scale=False)[1]
        for credit in (step_rewards.token_advantages, step_rewards.smallest_advantages)
    )
    whole = [mixes.advantages([1, 0], scale=False)[1]] * 3
    bars = [e["bar"] for e in rows("credit", "bar")]
    assert bars == pytest.approx([*whole, *critic[0].tolist(), *summed, *worst], abs=1e-3)
    assert "expects 0.5, 0.6, 0.1" in str(rows("credit", "words"))


def test_the_margin_of_dpo_adds_up():
    now, *rest = [float(e["number"]) for e in rows("dpo", "number")]
    now_rejected, then, then_rejected, ratio, ratio_rejected, margin = rest
    assert (now - then, now_rejected - then_rejected) == (ratio, ratio_rejected)
    assert ratio - ratio_rejected == margin


def test_clipping_is_drawn_as_the_objective_has_it():
    """The minimum of both products; a gradient where it is the one with the ratio itself."""
    numbers = [float(e["number"]) for e in rows("clipping", "number")]
    expected, gradients = [], []
    for advantage, *ratios in (numbers[:4], numbers[4:]):
        for ratio in ratios:
            clipped = min(max(ratio, 0.8), 1.2) * advantage
            expected.append(min(ratio * advantage, clipped))
            gradients.append("check" if ratio * advantage <= clipped else "cross")
    assert [e["bar"] for e in rows("clipping", "bar")] == pytest.approx(expected)
    assert [e["mark"] for e in rows("clipping", "mark")] == gradients
