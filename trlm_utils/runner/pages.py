"""Render reports and the comparison as HTML and Markdown, from the templates in `templates/`.

The values come from models and from the user's files, so they are not trusted: all are
escaped, in HTML by jinja2 and in Markdown by `plain`.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from trlm_utils import plots
from trlm_utils.evaluation import arm_plots, ladder_plots
from trlm_utils.runner import report_texts

TEMPLATES = Path(__file__).with_name("templates")
# Characters with a meaning anywhere in Markdown, also in a table's cell.
_SPECIAL = re.compile(r"[\\`*~|]|(?<!\w)_|_(?!\w)|(?<=\])[(\[:]")
# Characters with a meaning at the beginning of a line: headings, lists, rules.
_LEADING = re.compile(r"^(#{1,6}(?=\s|$)|[-+](?=\s)|-(?=--)|[=>])")
_NUMBERED = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")


def report_html(content: dict[str, Any]) -> str:
    """A report as one self-contained HTML page.

    Args:
        content: what `report.collect` returns.
    """
    return render("report.html.jinja", **_values(content), ladder=_ladder_svg(content))


def report_markdown(content: dict[str, Any]) -> str:
    """A report as Markdown."""
    return render("report.md.jinja", **_values(content))


def render(template: str, **values: Any) -> str:
    """Render a template; its name decides whether values are escaped for HTML or Markdown."""
    return _environment(".md." in template).get_template(template).render(values)


@cache
def _environment(markdown: bool) -> Any:
    """The jinja2 environment. It has no autoescape for Markdown, so ``finalize`` does that."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=not markdown,
        finalize=plain if markdown else None,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def plain(value: Any) -> str:
    """A value escaped for Markdown, on one line, so that it is shown literally."""
    line = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;")
    line = _SPECIAL.sub(lambda found: "\\" + found[0], line)
    return _NUMBERED.sub(r"\1\\\2", _LEADING.sub(r"\\\1", line))


def drawn(figure: Any) -> Any:
    """A figure as an SVG element that is not escaped again; matplotlib escapes its texts."""
    from markupsafe import Markup

    return Markup(plots.svg(figure))


def _values(content: dict[str, Any]) -> dict[str, Any]:
    """The values that both templates of a report use."""
    return {
        "title": f"{content['recipe']} ({content['scale']})",
        "about": content["about"],
        "seeds": ", ".join(map(str, content["seeds"])),
        "statements": report_texts.plain_statements(content),
        "time": report_texts.time_line(content),
        "tables": report_texts.tables(content),
        "lists": report_texts.lists(content),
    }


def _ladder_svg(content: dict[str, Any]) -> Any:
    """The ladder, or with arms their differences, as SVG elements; empty without evaluations."""
    if not content["ladder"]:
        return ""
    import pandas as pd
    from markupsafe import Markup

    table = pd.DataFrame(content["arms"])
    if "difference" in table and table["difference"].notna().any():
        pages = arm_plots.ablation_pages(table)
        return Markup("").join(drawn(arm_plots.plot_ablations(table, groups=p)) for p in pages)
    ladder = pd.DataFrame(content["ladder"])
    return drawn(ladder_plots.plot_ladder(ladder, joined=not content["arms"]))
