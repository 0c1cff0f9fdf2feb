"""Export a notebook as slides: one HTML file that works offline.

    python -m tools.slides 05_grpo_rewards 10_ablations

Each section of the notebook is a column of slides with its text, code and outputs. The slides
use reveal.js, from the sphinx-revealjs package, and formulas are converted to MathML. So
nothing is downloaded during a presentation.
"""

from __future__ import annotations

import argparse
import html
import re
import sys
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trlm_utils.files import PROJECT_ROOT, CourseError, runs_root, shown, write_text

TEMPLATE = Path(__file__).with_name("slides.html.jinja")
LONGEST_CODE = 18  # lines; longer code is not shown
LONGEST_OUTPUT, WIDTH = 22, 100  # lines, and characters per line
TALLEST_TABLE = 16  # rows at full size; larger tables are drawn smaller
PAGE = 640  # usable height of a slide in pixels
LEFT_OUT = {"Parameters", "Save", "Exercises"}  # sections that are not shown in a talk
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)


def export(notebook: Path, folder: Path) -> Path:
    """Write a notebook with its outputs as slides; returns the file.

    Raises:
        CourseError: when the packages for slides are not installed.
    """
    import jinja2
    import nbformat

    script, css = _reveal()
    cells = nbformat.read(notebook, as_version=4).cells
    page = jinja2.Template(TEMPLATE.read_text(encoding="utf-8")).render(
        title=notebook.stem,
        css=css,
        script=script,
        highlighting=_highlighting(),
        sections=sections(cells),
    )
    path = folder / f"{notebook.stem}.html"
    write_text(path, page)
    return path


def sections(cells: Sequence[Any]) -> list[list[str]]:
    """The slides of a notebook as HTML: a list of sections, each a list of slides."""
    found: list[tuple[str, list[str]]] = []  # title, pieces
    for cell in cells:
        if cell.cell_type == "markdown":
            for text in re.split(r"(?m)^(?=#{1,2} )", cell.source):
                heading = re.match(r"#{1,2} (.*)", text)
                if heading:
                    found.append((heading[1].strip(), []))
                if found and text.strip():
                    found[-1][1].extend(markdown(part) for part in _paragraphs(text))
        elif found:
            found[-1][1].extend(code_pieces(cell))
    return [pack(title, pieces) for title, pieces in found if title not in LEFT_OUT and pieces]


def _paragraphs(text: str) -> list[str]:
    """Split Markdown at blank lines; a heading stays with the following paragraph."""
    parts = [part for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]
    if len(parts) > 1 and parts[0].startswith("#"):
        parts[:2] = ["\n\n".join(parts[:2])]
    return parts


def pack(title: str, pieces: Sequence[str]) -> list[str]:
    """Distribute the pieces of a section, in order, over as few slides as possible."""
    slides: list[str] = []
    used = 0.0
    for piece in pieces:
        size = height(piece)
        if slides and used + size <= PAGE:
            slides[-1] += piece
            used += size
        else:
            caption = f'<div class="section">{html.escape(title)}</div>' if slides else ""
            slides.append(caption + piece)
            used = size + 40 * bool(caption)
    return slides


def height(piece: str) -> float:
    """Estimated height of a piece of HTML in pixels; a slide has 720."""
    if "<img" in piece:
        return PAGE
    if "<table" in piece:
        return 34.0 * min(TALLEST_TABLE, piece.count("<tr")) + 20
    if "<pre" in piece:
        return 26.0 * (piece.count("\n") + 1) + 20
    words = re.sub(r"<math.*?</math>", "formula", piece, flags=re.DOTALL)
    words = re.sub(r"<[^>]+>", "", words)
    size = sum(45.0 * (1 + len(line) // 72) for line in words.strip().split("\n") if line.strip())
    return size + 60 * piece.count('display="block"') + 40 * piece.count("<h")


def code_pieces(cell: Any) -> list[str]:
    """A cell's code, unless it is long or only draws a figure, followed by its outputs."""
    outputs = [found for output in cell.outputs if (found := output_html(output))]
    draws = any("<img" in found for found in outputs)
    short = cell.source.count("\n") < LONGEST_CODE
    return [_code(cell.source)] * (short and bool(outputs) and not draws) + outputs


def output_html(output: Any) -> str:
    """One output as HTML: a figure, a table or text; text is truncated to fit on a slide."""
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img alt="figure" src="data:image/png;base64,{data["image/png"].strip()}">'
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
        scale = min(1.0, TALLEST_TABLE / max(1, table.count("<tr")))
        return f'<div style="font-size: {scale:.2f}em">{table}</div>'
    text = output.get("text") or data.get("text/plain", "")
    wrapped = [part for line in text.rstrip().split("\n") for part in _wrap(line)]
    if len(wrapped) > LONGEST_OUTPUT:
        wrapped = [*wrapped[: LONGEST_OUTPUT - 1], "..."]
    kept = html.escape("\n".join(wrapped))
    return f'<pre class="output">{kept}</pre>' if kept else ""


def _wrap(line: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, drop_whitespace=False, break_on_hyphens=False) or [""]


def markdown(text: str) -> str:
    """Convert Markdown with formulas to HTML with MathML."""
    from latex2mathml.converter import convert
    from nbconvert.filters.markdown_mistune import markdown2html_mistune

    formulas: list[str] = []

    def keep(found: re.Match[str]) -> str:
        block, inline = found.groups()
        formulas.append(convert(block or inline, display="block" if block else "inline"))
        return f"FORMULA{len(formulas) - 1}END"

    page = markdown2html_mistune(_FORMULA.sub(keep, text))
    return re.sub(r"FORMULA(\d+)END", lambda found: formulas[int(found[1])], page)


def _code(source: str) -> str:
    from nbconvert.filters import Highlight2HTML

    return Highlight2HTML(pygments_lexer="python")(source)


def _highlighting() -> str:
    from pygments.formatters import HtmlFormatter

    return HtmlFormatter(style="friendly").get_style_defs(".highlight")


def _reveal() -> tuple[str, str]:
    """reveal.js and its style, from the installed package (which is not imported)."""
    missing = [name for name in ("sphinx_revealjs", "latex2mathml") if not find_spec(name)]
    if missing:
        raise CourseError(f"slides need {' and '.join(missing)}: pip install -e '.[slides]'")
    package = find_spec("sphinx_revealjs")
    folder = Path(package.origin).parent / "_static" / "revealjs" / "dist"  # type: ignore[union-attr, arg-type]
    styles = [folder / "reset.css", folder / "reveal.css", folder / "theme" / "white.css"]
    css = "\n".join(path.read_text(encoding="utf-8") for path in styles)
    css = re.sub(r"@import url\([^)]*\);", "", css)  # imports a separate font file
    return (folder / "reveal.js").read_text(encoding="utf-8"), css


def main(arguments: Sequence[str] | None = None) -> int:
    """Export notebooks; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.slides")
    parser.add_argument("notebooks", nargs="+", help="names, as 05_grpo_rewards, or paths")
    parser.add_argument("--folder", type=Path, default=None, help="default: slides/ in runs")
    options = parser.parse_args(arguments)
    try:
        for name in options.notebooks:
            own = PROJECT_ROOT / "notebooks" / f"{name}.ipynb"
            path = Path(name) if name.endswith(".ipynb") else own
            if not path.is_file():
                raise CourseError(f"no notebook {shown(path)}")
            print(shown(export(path, options.folder or runs_root() / "slides")))
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
