"""Pages: what models and recipes write is shown letter by letter, in HTML and in Markdown."""

import pytest

from trlm_utils.runner import compare, pages

HOSTILE = "</td><script>alert(1)</script> | `x` [y](javascript:z) &amp; **b**\n| a | b |\n# title"


def rows(markdown):
    """Cells of a Markdown table's lines, split at the bars that are not escaped."""
    found = [line for line in markdown.split("\n") if line.startswith("|")]
    return [line.replace("\\|", "").strip("|").split("|") for line in found]


def content(text):
    ladder = {"stage": "06_grpo", "seed": 0, "band": text, "decoding": "sampled", "n": 40}
    ladder |= {"accuracy": 0.5, "low": 0.4, "high": 0.6, "truncated": 0.0, "well_formed": 1.0}
    stage = {"stage": "06_grpo", "seed": 0, "wall_seconds": 1.0, "startup_seconds": 0.5}
    stage |= {"peak_rss_mb": 1.0, "tokens": 1, "metrics": {"headline": text}}
    arm = ladder | {"group": text, "arm": text, "reference": True, "tokens": 3.0}
    change = {"from": text, "to": "06_grpo", "band": text, "decoding": "sampled"}
    published = {"model": text, "band": text, "score": 0.5, "harness": text}
    return {
        "recipe": text,
        "about": text,
        "scale": "nano",
        "seeds": [0],
        "result": "06_grpo",
        "price": {"dollars_per_hour": 0.0, "for": text},
        "totals": {"dollars": 0.0},
        "environment": {"device": text},
        "stages": [stage],
        "arms": [arm],
        "ladder": [ladder | {"tokens": 3.0}],
        "published": [published],
        "pairs": [],
        "over_base": [],
        "comparisons": [change | {"difference": 0.1, "low": 0.0, "high": 0.2}],
        "deviations": [text],
        "notes": [text],
    }


def test_a_report_in_html_shows_hostile_text_and_runs_none_of_it():
    page = pages.report_html(content(HOSTILE))
    assert "<script" not in page and "</td>&lt;" not in page
    assert page.count("&lt;script&gt;alert(1)") > 10  # in every table and list
    assert page.count("<td") == page.count("</td>") and page.count("<tr") == page.count("</tr>")
    assert "&amp;amp;" in page  # an entity that was written is no entity


def test_a_report_in_markdown_keeps_its_tables_whole():
    calm, hostile = (pages.report_markdown(content(text)) for text in ("calm", HOSTILE))
    assert [len(row) for row in rows(hostile)] == [len(row) for row in rows(calm)]
    assert hostile.count("\n") == calm.count("\n")
    assert "<script" not in hostile and "](" not in hostile and "**b**" not in hostile
    assert [line for line in hostile.split("\n") if line.startswith("# ")] == [
        hostile.split("\n")[0]
    ]


def test_markdown_that_is_shown_is_what_was_written():
    """Rendered by a Markdown parser, a hostile cell gives its own letters back."""
    mistune = pytest.importorskip("mistune")  # comes with nbconvert
    import html
    import re

    text = "_a_ `b` *c* ~~d~~ [e](f) <g> h|i \\ 1. j https://k"
    table = pages.render("compare.md.jinja", head=["x"], body=[[text]], band="b")
    shown = mistune.create_markdown(escape=False, plugins=["table", "strikethrough"])(table)
    (cell,) = re.findall(r"<td>(.*?)</td>", shown)
    assert html.unescape(cell) == text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# a", "\\# a"),
        ("- a", "\\- a"),
        ("1. a", "1\\. a"),
        ("--- a", "\\--- a"),
        ("> a -> b", "\\> a -> b"),
        ("-1.5 [0.1, 0.2]", "-1.5 [0.1, 0.2]"),
        ("02_sft_stage1", "02_sft_stage1"),
        ("a\n\n| b |", "a \\| b \\|"),
        (3, "3"),
    ],
)
def test_a_value_is_one_line_of_markdown(text, line):
    assert pages.plain(text) == line


def test_the_comparison_shows_hostile_text_and_runs_none_of_it(monkeypatch):
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots()
    axis.set_title("<script>alert(2)</script>")
    plt.close(figure)
    found = content(HOSTILE)
    row = {"recipe": HOSTILE, "seeds": 1, "from": HOSTILE, "result": HOSTILE}
    numbers = ("end_greedy", "end_sampled", "gained", "minutes", "tokens", "dollars", "joules")
    row |= dict.fromkeys([*numbers, "trainable_parameters", "dollars_per_point"])
    page = compare.page([row], {HOSTILE: found}, [HOSTILE], figure)
    assert "<script" not in page and page.count("&lt;script&gt;alert(1)") > 5
    calm = compare.markdown([row | dict.fromkeys(("recipe", "from", "result"), "calm")])
    assert [len(r) for r in rows(compare.markdown([row]))] == [len(r) for r in rows(calm)]


def test_templates_are_part_of_the_package():
    import tomllib

    from trlm_utils.files import PROJECT_ROOT

    package = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())
    patterns = package["tool"]["setuptools"]["package-data"]["trlm_utils"]
    kept = {path for pattern in patterns for path in (PROJECT_ROOT / "trlm_utils").glob(pattern)}
    assert set(pages.TEMPLATES.iterdir()) <= kept
