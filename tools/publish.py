"""Copy the outputs of a real run into the committed notebooks, and check that they match.

    python -m tools.publish publish     # after `pipeline run nano`
    python -m tools.publish notebooks   # of one seed: outputs and figures of its own; what
                                        # stands on several seeds stays
    python -m tools.publish check

Publishing copies outputs (not sources) from ``runs/nano``, without personal paths and reduced
in size. It also copies the figures and writes the README's results table.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools import colab, figures, results
from trlm_utils import plots
from trlm_utils.evaluation.pooling import seed_folders
from trlm_utils.files import PROJECT_ROOT, CourseError, read_json, read_rows, runs_root

NOTEBOOKS = PROJECT_ROOT / "notebooks"
FIGURES = PROJECT_ROOT / "figures"
README = PROJECT_ROOT / "README.md"
MAX_KB = 1000  # of a notebook; pictures are most of it
EMBEDDED = 800  # pixels: width of the figures inside committed notebooks
CAREFUL, ARMS = "careful_evaluation", ("careful", "careful_grpo")  # of the recipe careful
CAREFUL_COLUMNS = (
    ("in_distribution", "greedy"),
    ("in_distribution", "sampled"),
    ("longer", "greedy"),
    ("longer", "sampled"),
    ("longest", "greedy"),
)
# tables of recipes that continue nano
PUBLISHED = (
    *("careful", "controls", "algorithms", "hacking", "curation", "curation_tuned"),
    *("frontier", "frontier_steps", "lengths", "lengths_steps"),
)
REAL_COLUMNS = (
    ("word_problems", "greedy"),
    ("word_problems", "sampled"),
    ("in_distribution", "greedy"),
    ("longest", "greedy"),
    ("new_phrasing", "greedy"),
    ("new_family", "greedy"),
)
# tables of recipes that no figure is drawn from
BESIDE = (
    *("hacking_replies", "smollm2", "smollm2_asked", "smollm2_examples"),
    "smollm2_failures",
)
# figures and tables of the ladder over all seeds
LADDER = ("ladder", "rises", "by_steps", "pass_at_k", "voting", "styles")
# Metadata of a cell to keep; all else belongs to a run or to a user's machine.
KEPT_CELL_METADATA = ("tags", "jupyter", "cellView")


def source_digest(notebook: Any) -> str:
    """SHA-256 over the types and sources of all cells of a notebook but those for Colab."""
    digest = hashlib.sha256()
    for cell in own_cells(notebook):
        digest.update(f"{cell.cell_type}\0{cell.source}\0".encode())
    return digest.hexdigest()


def own_cells(notebook: Any) -> list[Any]:
    """A notebook's cells without badge and bootstrap cell, which have no outputs to publish."""
    return [c for c in notebook.cells if colab.TAG not in c.metadata.get("tags", [])]


def merge_outputs(source: Any, executed: Any, recipe: str = "nano") -> Any:
    """The source notebook with the outputs of its executed copy.

    Text may have been edited since the run; code may not.

    Raises:
        CourseError: when the code of the executed copy is different.
    """
    ran = [
        c for c in own_cells(executed) if "injected-parameters" not in c.metadata.get("tags", [])
    ]
    code = [c for c in ran if c.cell_type == "code"]
    own = own_cells(source)
    if [c.source for c in code] != [c.source for c in own if c.cell_type == "code"]:
        raise CourseError("the executed copy comes from another source; run the recipe again")
    count, executed_cells = 0, iter(code)
    for cell in own:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in KEPT_CELL_METADATA}
        if cell.cell_type != "code":
            continue
        count += 1
        done = next(executed_cells)
        cell.execution_count = count
        cell.outputs = [clean_output(o, count) for o in done.outputs if _wanted(o)]
    source.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "trlm": {"source": source_digest(source), "recipe": recipe, "seed": 0},
    }
    return source


def _wanted(output: Any) -> bool:
    """Whether to keep an output: not stderr, which has progress bars and library warnings only."""
    return not (output.output_type == "stream" and output.name == "stderr")


def clean_output(output: Any, count: int) -> Any:
    """An output without run metadata and personal paths; widgets are replaced by their text."""
    if output.output_type == "execute_result":
        output.execution_count = count
    if output.output_type in ("execute_result", "display_data"):
        output.metadata = {}
        if output.data.pop("application/vnd.jupyter.widget-view+json", None):
            output.data["text/plain"] = "(controls: run this notebook to see and move them)"
        if "text/html" in output.data:
            output.data["text/html"] = plainer_table(output.data["text/html"])
        if "image/png" in output.data:
            output.data["image/png"] = smaller_png(output.data["image/png"])
    if output.output_type == "stream":
        output.text = output.text.replace(str(PROJECT_ROOT), ".")
    return output


def plainer_table(page: str) -> str:
    """A table of pandas' Styler without the names of its cells, unless its style uses them."""
    if "#T_" in page:
        return page
    names = r' (?:id="T_[^"]*"|class="(?:data|row_heading|col_heading|index_name|blank)[^"]*")'
    return re.sub(r"\s+>", ">", re.sub(r">\s+<", "><", re.sub(names, "", page)))


def smaller_png(encoded: str) -> str:
    """A PNG (base64) at most `EMBEDDED` pixels wide, in all its colours."""
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    if picture.width <= EMBEDDED:
        return encoded
    size = (EMBEDDED, round(picture.height * EMBEDDED / picture.width))
    picture = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    picture.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def publish_notebooks(runs: Sequence[Path]) -> list[str]:
    """Write outputs of finished stages into all notebooks.

    Raises:
        CourseError: when a stage is not finished, or was run with other code.
    """
    import nbformat

    written = []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        folder = finished_folder(path.stem, runs)
        executed = nbformat.read(folder / "notebook.ipynb", as_version=4)
        merged = merge_outputs(nbformat.read(path, as_version=4), executed, folder.parent.name)
        nbformat.write(merged, path)
        written.append(path.name)
    return written


def publish(run: Path) -> list[str]:
    """Write outputs, figures and the README's table from a finished run.

    Raises:
        CourseError: see `publish_notebooks`.
    """
    written = publish_seed([run, runs_root() / "deep_dives"])
    report = read_json(run / "report.json")
    beside = {name: careful_rows(run, name, report["seeds"]) for name in ("ladder", "by_steps")}
    tables = seed_tables(report, beside["ladder"])
    for name, table in tables.items():  # all first, because some figures need another's table
        table.to_csv(FIGURES / f"{name}.csv", index=False)
    for name, table in tables.items():
        save_all(name, table)
    write_block("results", results.results_table(report, beside["ladder"], beside["by_steps"]))
    written += publish_arms(run)
    for folder in sorted(runs_root().glob("smollm2-*")):
        written += publish_arms(folder)
    return [*written, *publish_comparison(), README.name]


def publish_seed(runs: Sequence[Path]) -> list[str]:
    """Write outputs and figures of one seed; those that stand on several seeds stay.

    Raises:
        CourseError: see `publish_notebooks`.
    """
    written = publish_notebooks(runs)
    FIGURES.mkdir(exist_ok=True)
    mine = {path.stem for path in NOTEBOOKS.glob("*.ipynb")}  # a run may have other stages
    for figure in sorted(f for run in runs for f in run.glob("*/figures/*")):
        pooled = figure.stem in (*LADDER, *PUBLISHED)
        if figure.parts[-3] in mine and not pooled:
            shutil.copy(figure, FIGURES / figure.name)
            written.append(figure.name)
    return written


def publish_arms(run: Path) -> list[str]:
    """The tables and figures of recipes that continue `nano`, if they ran."""
    import pandas as pd

    written = []
    for name in BESIDE:
        if (path := run / f"{name}.csv").is_file():
            shutil.copy(path, FIGURES / path.name)
            written.append(path.name)
            if name == "smollm2":
                write_block(name, results.arms_table(first_group(path), REAL_COLUMNS))
    for name in PUBLISHED:
        if (path := run / f"{name}.csv").is_file():
            table = pd.read_csv(path, dtype={"arm": str})
            save_all(name, table)
            written.append(f"{name}.csv")
            if name == "careful":
                rows = table.to_dict("records")
                write_block(name, results.arms_table(rows, CAREFUL_COLUMNS))
    return written


def first_group(path: Path) -> list[dict[str, Any]]:
    """Rows of an arms' table that belong to its first group."""
    import pandas as pd

    rows = pd.read_csv(path, dtype={"arm": str}).to_dict("records")
    return [row for row in rows if row["group"] == rows[0]["group"]]


def careful_rows(run: Path, name: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of the recipe `careful`, whose arms stand beside the ladder; none if it did not run.

    Args:
        run: folder of `nano`, which that recipe continues.
        name: of the table, ``ladder`` or ``by_steps``.
        seeds: those of the ladder.
    """
    found = []
    for seed, folder in seed_folders(run).items():
        place = folder / CAREFUL / "data" / f"{name}.jsonl"
        if seed in seeds and place.is_file():
            rows = read_rows(place)
            found += [row | {"seed": seed} for row in rows if row["stage"] in ARMS]
    return found


def publish_comparison() -> list[str]:
    """Copy the figures and the table of the last `make compare`, if there was one."""
    import pandas as pd

    from trlm_utils.runner import compare

    folder = runs_root() / "compare"
    if not (folder / "compare.json").is_file():
        return []
    for figure in sorted(folder.glob("compare.*")):
        if figure.suffix in (".svg", ".png", ".csv"):
            shutil.copy(figure, FIGURES / figure.name)
    for name in compare.RECIPES:  # figures of the arms in each recipe's report
        if (path := runs_root() / name / f"{name}.csv").is_file():
            table = pd.read_csv(path, dtype={"arm": str})
            save_all(name, table)
    write_block("systems", compare.markdown(read_json(folder / "compare.json")["recipes"]))
    return ["compare.csv", "compare.png", "compare.svg"]


def finished_folder(stage: str, runs: Sequence[Path]) -> Path:
    """The folder of a finished stage, in the first run that has it.

    Raises:
        CourseError: when no run has it.
    """
    for run in runs:
        manifest = run / stage / "manifest.json"
        if manifest.is_file() and read_json(manifest).get("status") == "finished":
            return run / stage
    raise CourseError(f"{stage} is not finished; see `make help` for what runs it")


def seed_tables(report: dict[str, Any], beside: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Name and table of each figure over all seeds; notebooks show only one seed.

    Args:
        report: content of report.json.
        beside: rows like the ladder's, of arms that are no rung of it.
    """
    import pandas as pd

    rows = [row | {"rung": True} for row in report["ladder"]]
    tables = {
        "ladder": pd.DataFrame([*rows, *(row | {"rung": False} for row in beside)]),
        "rises": pd.DataFrame([*report["comparisons"], *report["over_base"]]),
    }
    return tables | {
        name: pd.DataFrame(report[name]) for name in LADDER if name not in tables and report[name]
    }


def save_all(name: str, table: Any) -> None:
    """Write a table's figures (`tools.figures`), each with its rows beside it."""
    for figure_name, figure, rows in figures.PAINTERS[name](name, table):
        plots.save_figure(figure, FIGURES / figure_name, rows)


def write_block(name: str, text: str) -> None:
    """Replace the text between the marks of this name in the README."""
    whole = README.read_text(encoding="utf-8")
    README.write_text(with_block(whole, name, text), encoding="utf-8")


def with_block(whole: str, name: str, text: str, by: str = "make notebooks") -> str:
    """A page with the text between the marks of this name replaced.

    Args:
        by: the command that the mark names.
    """
    begin, end = f"<!-- {name}: written by `{by}` -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n{text}\n{end}", whole)


def check(path: Path) -> list[str]:
    """Problems of a committed notebook, one per line; empty if there are none."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    problems = []
    if notebook.metadata.get("trlm", {}).get("source") != source_digest(notebook):
        problems.append("its outputs do not belong to its source: run `make notebooks`")
    counts = [c.execution_count for c in own_cells(notebook) if c.cell_type == "code"]
    if counts != list(range(1, len(counts) + 1)):
        problems.append("its cells were not executed in order, once each")
    if path.stat().st_size > MAX_KB * 1024:
        problems.append(f"it is larger than {MAX_KB} KB")
    text = path.read_text(encoding="utf-8")
    if "widget-view" in text or '"widgets"' in text:
        problems.append("it holds widget state")
    if re.search(r"/(?:home|Users|root)/|\bhf_[A-Za-z0-9]{20,}", text):
        problems.append("it holds a personal path or a token")
    return problems


def main(arguments: list[str]) -> int:
    """``publish``, ``notebooks`` or ``check``; returns the exit status."""
    if arguments in (["publish"], ["notebooks"]):
        run = runs_root() / "nano"
        try:
            if arguments == ["publish"]:
                written = publish(run)
            else:
                written = publish_seed([run, runs_root() / "deep_dives"])
            print("\n".join(written))
        except CourseError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        return 0
    if arguments == ["check"]:
        lines = [f"{p.name}: {x}" for p in sorted(NOTEBOOKS.glob("*.ipynb")) for x in check(p)]
        print("\n".join(lines) or "all notebooks fit their sources")
        return 1 if lines else 0
    print("usage: python -m tools.publish publish | notebooks | check", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
