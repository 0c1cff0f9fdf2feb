"""Export a notebook or a talk as slides: one HTML file that works offline.

    python -m tools.slides docs/talk.md 05_grpo_rewards 10_ablations

It uses nbconvert's exporter for reveal.js slides. Before the export, `sections` divides a
notebook into slides: each section is a column of slides, with a new slide whenever one is
full. A talk is Markdown that is divided already (`talk`): slides between lines of ``---``,
speaker notes after a line ``Note:``, as reveal.js has it; the key S opens them. reveal.js is
taken from the sphinx-revealjs package, formulas are converted to MathML, and figures are taken
in as SVG, so nothing is downloaded during a presentation and nothing is blurred by it.
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
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

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


def export(source: Path, folder: Path) -> Path:
    """Write a notebook with its outputs, or a talk (.md), as slides; returns the file.

    Raises:
        CourseError: when the packages for slides are not installed, or the file is no notebook;
            see `talk`, `embedded`.
    """
    import nbformat

    script, notes, css = _reveal()
    exporter = OfflineSlides(
        extra_template_basedirs=[str(TEMPLATES)],
        template_name="slides_template",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    parts = {"css": css, "script": script, "notes": notes, "highlighting": _highlighting()}
    about = {"name": source.stem, "path": str(source.parent)}
    if source.suffix == ".md":
        notebook = talk(source.read_text(encoding="utf-8"))
    else:
        try:
            notebook = nbformat.read(source, as_version=4)
        except ValueError:  # cut off, or another kind of file
            raise CourseError(f"{shown(source)} is not a notebook") from None
        notebook.cells = [
            cell for section in sections(notebook.cells, source.parent) for cell in section
        ]
    page, _ = exporter.from_notebook_node(notebook, {"offline": parts, "metadata": about})
    path = folder / f"{source.stem}.html"
    write_text(path, page)
    return path


def talk(text: str) -> Any:
    """The notebook of a talk in Markdown: a cell for each slide, and one for its notes.

    Raises:
        CourseError: for a slide without speaker notes.
    """
    cells = []
    for number, part in enumerate(re.split(r"(?m)^---$", text), 1):
        shown_there, mark, notes = part.partition("\nNote:")
        if not mark or not notes.strip():
            raise CourseError(f"slide {number} of the talk has no speaker notes: add Note: below")
        for source, kind in ((shown_there, "slide"), (notes, "notes")):
            cells.append(new_markdown_cell(source.strip()))
            _mark(cells[-1], kind)
    return new_notebook(cells=cells)


class OfflineSlides(SlidesExporter):
    """nbconvert's exporter for slides, without the files that it would load from the network."""

    def markdown2html(self, context: Any, source: str) -> str:
        """Convert a Markdown cell to HTML, with MathML instead of MathJax, and its pictures."""
        return embedded(markdown(source), Path(context["resources"]["metadata"]["path"]))

    markdown2html.jinja_pass_arg = SlidesExporter.markdown2html.jinja_pass_arg


def sections(cells: Sequence[Any], folder: Path = PROJECT_ROOT / "notebooks") -> list[list[Any]]:
    """The cells of each section to show, each with its ``slide_type`` in the metadata.

    Args:
        cells: of a notebook.
        folder: where it lies; see `drawn`.
    """
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
            found[-1][1].extend(code_cells(cell, folder))
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
    if {"image/png", "image/svg+xml"} & set(data):
        return PAGE
    if "text/html" in data:
        return 34.0 * min(TALLEST_TABLE, data["text/html"].count("<tr")) + 20
    return 26.0 * (data["text/plain"].count("\n") + 1) + 20


def code_cells(cell: Any, folder: Path = PROJECT_ROOT / "notebooks") -> list[Any]:
    """A cell with the code, unless it is long or only draws a figure; and a cell per output."""
    outputs = [found for output in cell.outputs if (found := cut(output))]
    draws = any("image/png" in output.data for output in outputs)
    pictures = [output for output in outputs if "image/png" in output.data]
    figures = drawn(cell.source, folder, len(pictures))
    for output, file in zip(pictures, figures, strict=False):
        output.data = {"image/svg+xml": file.read_text(encoding="utf-8")}
    short = cell.source.count("\n") < LONGEST_CODE
    cells = [new_code_cell(cell.source)] * (short and bool(outputs) and not draws)
    for output in outputs:
        shown_alone = new_code_cell(outputs=[output])
        shown_alone.metadata.transient = {"remove_source": True}
        cells.append(shown_alone)
    return cells


def drawn(source: str, folder: Path, number: int) -> list[Path]:
    """The figures that a cell saves, as SVG, in order; none if it cannot be told which.

    Args:
        source: of the cell; a name that it calls ``save_figure`` with may have further pages,
            as ``ablations`` has ``ablations_2``; with one name it shows the first of them.
        folder: of the notebook: a run's stage has its figures beside it, those of the committed
            notebooks are in ``figures/``.
        number: of pictures that the cell shows.
    """
    own = folder / "figures"
    place = own if own.is_dir() else PROJECT_ROOT / "figures"
    names = dict.fromkeys(re.findall(r'"(\w+)"', "".join(re.findall(r"save_figure.*", source))))
    pages = [f"{name}{page}" for name in names for page in ("", *(f"_{i}" for i in range(2, 10)))]
    found = [file for page in pages if (file := place / f"{page}.svg").is_file()]
    first = len(names) == 1 and len(found) > number
    return found[:number] if first or len(found) == number else []


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
        figure = Path(name).parent.name == "figures"  # not one of figures/pictures
        for start in (folder, PROJECT_ROOT / "notebooks"):
            if (start / name).is_file():
                encoded = base64.b64encode((start / name).read_bytes()).decode()
                kind = 'class="figure" ' if figure else ""
                return f'{kind}src="data:image/svg+xml;base64,{encoded}"'
        raise CourseError(f"no picture {name}; make pictures renders those of the course")

    return re.sub(r'(?<=<img )src="([^":]+\.svg)"', inside, page)


def _highlighting() -> str:
    from pygments.formatters import HtmlFormatter

    return HtmlFormatter(style="friendly").get_style_defs(".highlight")


def _reveal() -> tuple[str, str, str]:
    """reveal.js, its speaker notes and its style, from the installed package (not imported)."""
    missing = [name for name in ("sphinx_revealjs", "latex2mathml") if not find_spec(name)]
    if missing:
        raise CourseError(f"slides need {' and '.join(missing)}: pip install -e '.[slides]'")
    package = find_spec("sphinx_revealjs")
    folder = Path(package.origin).parent / "_static" / "revealjs"  # type: ignore[union-attr, arg-type]
    names = ("reset.css", "reveal.css", "theme/white.css")
    styles = [folder / "dist" / name for name in names]
    css = "\n".join(path.read_text(encoding="utf-8") for path in styles)
    css = re.sub(r"@import url\([^)]*\);", "", css)  # imports a separate font file
    scripts = (folder / "dist" / "reveal.js", folder / "plugin" / "notes" / "notes.js")
    script, notes = (path.read_text(encoding="utf-8") for path in scripts)
    return script, notes, css


def main(arguments: Sequence[str] | None = None) -> int:
    """Export notebooks and talks; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.slides")
    told = "notebooks: names, as 05_grpo_rewards, or paths; talks: paths that end in .md"
    parser.add_argument("sources", nargs="+", help=told)
    parser.add_argument("--folder", type=Path, default=None, help="default: slides/ in runs")
    options = parser.parse_args(arguments)
    try:
        for name in options.sources:
            own = PROJECT_ROOT / "notebooks" / f"{name}.ipynb"
            path = Path(name) if name.endswith((".ipynb", ".md")) else own
            if not path.is_file():
                raise CourseError(
                    f"no {'talk' if path.suffix == '.md' else 'notebook'} {shown(path)}"
                )
            print(shown(export(path, options.folder or runs_root() / "slides")))
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
