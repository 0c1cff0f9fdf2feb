"""Export a notebook as slides: one HTML file that works offline.

    python -m tools.slides 05_grpo_rewards 10_ablations

It uses nbconvert's exporter for reveal.js slides. Before the export, `Paginate` divides the
notebook into slides: each section is a column of slides, with a new slide whenever one is
full. reveal.js is taken from the sphinx-revealjs package, and formulas are converted to
MathML, so nothing is downloaded during a presentation.
"""

from __future__ import annotations

import argparse
import base64
import html
import re
import sys
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nbconvert.exporters import SlidesExporter
from nbconvert.preprocessors import Preprocessor
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from tools import colab
from trlm_utils.files import PROJECT_ROOT, CourseError, runs_root, shown, write_text

TEMPLATES = Path(__file__).parent  # the folder that contains slides_template/
LONGEST_CODE = 18  # lines; longer code is not shown
LONGEST_OUTPUT, WIDTH = 22, 100  # lines, and characters per line
TALLEST_TABLE = 16  # rows at full size; larger tables are drawn smaller
PAGE = 640  # usable height of a slide in pixels
PICTURE = 540  # greatest height of a drawn picture there, as in slides_template
LEFT_OUT = {"Parameters", "Save", "Exercises", "Solutions"}  # sections that are not shown in a talk
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)


def export(notebook: Path, folder: Path) -> Path:
    """Write a notebook with its outputs as slides; returns the file.

    Raises:
        CourseError: when the packages for slides are not installed.
    """
    script, css = _reveal()
    exporter = OfflineSlides(
        extra_template_basedirs=[str(TEMPLATES)],
        template_name="slides_template",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    parts = {"css": css, "script": script, "highlighting": _highlighting()}
    page, _ = exporter.from_filename(str(notebook), resources={"offline": parts})
    path = folder / f"{notebook.stem}.html"
    write_text(path, page)
    return path


class Paginate(Preprocessor):
    """Replaces a notebook's cells by cells that fit on slides, with nbconvert's slide types."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """The notebook with its cells divided into slides, and the unchanged resources."""
        nb.cells = [cell for section in sections(nb.cells) for cell in section]
        return nb, resources


class OfflineSlides(SlidesExporter):
    """nbconvert's exporter for slides, without the files that it would load from the network."""

    @property
    def default_config(self) -> Any:
        """nbconvert's default settings, with `Paginate` as the first preprocessor."""
        config = super().default_config
        config.OfflineSlides.preprocessors = [Paginate]
        return config

    def markdown2html(self, context: Any, source: str) -> str:
        """Convert a Markdown cell to HTML, with MathML instead of MathJax, and its pictures."""
        return embedded(markdown(source), Path(context["resources"]["metadata"]["path"]))

    markdown2html.jinja_pass_arg = SlidesExporter.markdown2html.jinja_pass_arg


def sections(cells: Sequence[Any]) -> list[list[Any]]:
    """The cells of each section to show, each with its ``slide_type`` in the metadata."""
    found: list[tuple[str, list[Any]]] = []  # title, cells
    for cell in cells:
        if colab.TAG in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "markdown":
            for text in re.split(r"(?m)^(?=#{1,2} )", cell.source):
                heading = re.match(r"#{1,2} (.*)", text)
                if heading:
                    found.append((heading[1].strip(), []))
                if found and text.strip():
                    found[-1][1].extend(map(new_markdown_cell, _paragraphs(text)))
        elif found:
            found[-1][1].extend(code_cells(cell))
    return [paged(title, parts) for title, parts in found if title not in LEFT_OUT and parts]


def _paragraphs(text: str) -> list[str]:
    """Split Markdown at blank lines; a heading stays with the paragraph that follows it, a
    picture with the one before it, which says what to look at."""
    parts = [p for p in re.split(r"\n\s*\n(?!\s*!\[)", text.strip()) if p.strip()]
    if len(parts) > 1 and parts[0].startswith("#"):
        parts[:2] = ["\n\n".join(parts[:2])]
    return parts


def paged(title: str, cells: Sequence[Any]) -> list[Any]:
    """Divide the cells of a section into slides: a new slide begins when one is full.

    nbconvert calls the first slide of a column "slide" and further ones "subslide". A further
    slide begins with a separate cell that has the section's title.
    """
    marked: list[Any] = []
    used = 0.0
    for cell in cells:
        size = height(cell)
        if not marked:
            _mark(cell, "slide")
            used = size
        elif used + size <= PAGE:
            used += size
        else:
            marked.append(new_markdown_cell(f'<div class="section">{html.escape(title)}</div>'))
            _mark(marked[-1], "subslide")
            used = size + 40
        marked.append(cell)
    return marked


def _mark(cell: Any, slide_type: str) -> None:
    cell.metadata.slideshow = {"slide_type": slide_type}


def height(cell: Any) -> float:
    """Estimated height of a cell in pixels; a slide has 720."""
    if cell.cell_type == "markdown":
        page = re.sub(r"<math.*?</math>", "formula", markdown(cell.source), flags=re.DOTALL)
        lines = re.sub(r"<[^>]+>", "", page).strip().split("\n")
        size = sum(45.0 * (1 + len(line) // 72) for line in lines if line.strip())
        formulas = sum(bool(block) for block, _ in _FORMULA.findall(cell.source))
        return size + 60 * formulas + 40 * page.count("<h") + PICTURE * page.count("<img")
    if not cell.outputs:
        return 26.0 * (cell.source.count("\n") + 1) + 20
    data = cell.outputs[0].data
    if "image/png" in data:
        return PAGE
    if "text/html" in data:
        return 34.0 * min(TALLEST_TABLE, data["text/html"].count("<tr")) + 20
    return 26.0 * (data["text/plain"].count("\n") + 1) + 20


def code_cells(cell: Any) -> list[Any]:
    """A cell with the code, unless it is long or only draws a figure; and a cell per output."""
    outputs = [found for output in cell.outputs if (found := cut(output))]
    draws = any("image/png" in output.data for output in outputs)
    short = cell.source.count("\n") < LONGEST_CODE
    cells = [new_code_cell(cell.source)] * (short and bool(outputs) and not draws)
    for output in outputs:
        shown_alone = new_code_cell(outputs=[output])
        shown_alone.metadata.transient = {"remove_source": True}
        cells.append(shown_alone)
    return cells


def cut(output: Any) -> Any:
    """An output reduced to one figure, table or text that fits on a slide; None if empty."""
    data = output.get("data", {})
    if "image/png" in data:
        return new_output("display_data", data={"image/png": data["image/png"]})
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
        scale = min(1.0, TALLEST_TABLE / max(1, table.count("<tr")))
        smaller = f'<div style="font-size: {scale:.2f}em">{table}</div>'
        return new_output("display_data", data={"text/html": smaller})
    text = output.get("text") or data.get("text/plain", "")
    lines = [part for line in text.rstrip().split("\n") for part in _wrap(line)]
    if len(lines) > LONGEST_OUTPUT:
        lines = [*lines[: LONGEST_OUTPUT - 1], "..."]
    kept = "\n".join(lines)
    return new_output("display_data", data={"text/plain": kept}) if kept.strip() else None


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


def embedded(page: str, folder: Path) -> str:
    """HTML with its SVG pictures inside, in place of links to their files.

    Args:
        page: the HTML.
        folder: of the notebook, from which the links start; an executed copy has those of
            the notebook that it was made from.

    Raises:
        CourseError: when there is no such picture.
    """

    def inside(found: re.Match[str]) -> str:
        name = found[1]
        for start in (folder, PROJECT_ROOT / "notebooks"):
            if (start / name).is_file():
                encoded = base64.b64encode((start / name).read_bytes()).decode()
                return f'src="data:image/svg+xml;base64,{encoded}"'
        raise CourseError(f"no picture {name}; make pictures renders those of the course")

    return re.sub(r'(?<=<img )src="([^":]+\.svg)"', inside, page)


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
