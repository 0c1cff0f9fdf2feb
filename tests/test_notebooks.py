"""Committed notebooks, read without running them: form, outputs, names, links."""

import ast
import importlib
import re
from pathlib import Path

import nbformat
import pytest

from tools import publish
from trlm_utils.files import PROJECT_ROOT
from trlm_utils.runner import parameters

PATHS = sorted(publish.NOTEBOOKS.glob("*.ipynb"))
EXPECTED = [
    "00_start_here",
    "01_data_curation",
    "02_sft_stage1",
    "03_sft_stage2",
    "04_dpo",
    "05_grpo_rewards",
    "06_grpo",
    "07_evaluation",
    "10_ablations",
    "11_reward_models",
    "12_algorithms",
    "13_reward_lab",
]
each = pytest.mark.parametrize("path", PATHS, ids=[p.stem for p in PATHS])


def read(path):
    return nbformat.read(path, as_version=4)


def code(path):
    return [c.source for c in read(path).cells if c.cell_type == "code"]


def test_the_sequence_is_complete():
    assert [p.stem for p in PATHS] == EXPECTED


@each
def test_outputs_belong_to_the_source(path):
    assert publish.check(path) == []


def test_a_changed_source_is_noticed(tmp_path):
    notebook = read(PATHS[0])
    notebook.cells[0].source += " changed"
    nbformat.write(notebook, tmp_path / "n.ipynb")
    assert "do not belong" in publish.check(tmp_path / "n.ipynb")[0]


@each
def test_no_cell_failed(path):
    outputs = [o for c in read(path).cells if c.cell_type == "code" for o in c.outputs]
    assert not [o for o in outputs if o.output_type == "error"]


@each
def test_parameters_are_typed_literals_and_the_first_code(path):
    assert parameters.read_parameters(path)["STAGE"].default == path.stem
    first = next(c for c in read(path).cells if c.cell_type == "code")
    assert first.metadata["tags"] == ["parameters"]
    # papermill cannot read a help text that holds an equals sign
    for line in first.source.splitlines():
        assert "=" not in line.partition("#")[2], line


@each
def test_papermill_reads_every_parameter(path):
    import papermill

    assert set(papermill.inspect_notebook(str(path))) == set(parameters.read_parameters(path))


@each
def test_anatomy(path):
    cells = read(path).cells
    text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith(f"# {path.stem[:2]}")
    for part in (
        "**You need**",
        "**You get**",
        "## The idea on toy numbers",
        "## Exercises",
    ):
        assert part in text, part
    assert re.search(r"negative result|What it cannot do", text)
    assert any("solution" in c.metadata.get("tags", []) for c in cells)
    assert any("nbval-check-output" in c.metadata.get("tags", []) for c in cells)
    assert "stage.finish(" in cells[-2].source


@each
def test_nothing_that_breaks_headless_runs(path):
    source = "\n".join(code(path))
    for banned in ("!pip", "%pip", "login(", "push_to_hub", "sys.path", "input("):
        assert banned not in source.replace("stage.input(", ""), banned


@each
def test_every_name_taken_from_the_module_exists(path):
    tree = ast.parse("\n".join(code(path)))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trlm_utils"):
            module = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")


@each
def test_links_lead_somewhere(path):
    text = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (path.parent / target).exists(), target


def test_readme_links_and_figures_exist():
    text = (PROJECT_ROOT / "README.md").read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (PROJECT_ROOT / target).exists(), target


def test_readme_table_is_that_of_the_committed_tables():
    """The numbers shown are the numbers in figures/ladder.csv and figures/rises.csv."""
    import pandas as pd

    ladder, rises = (
        pd.read_csv(PROJECT_ROOT / "figures" / f"{name}.csv") for name in ("ladder", "rises")
    )
    text = (PROJECT_ROOT / "README.md").read_text()
    first = ladder[ladder["band"] == ladder["band"].iloc[0]]
    groups = first.groupby(["stage", "decoding"])["accuracy"]
    assert len(groups) >= 8
    for name, accuracies in groups:
        low, high = 100 * accuracies.min(), 100 * accuracies.max()
        assert f"{100 * accuracies.mean():.1f} [{low:.1f} to {high:.1f}]" in text, name
    shown = rises[(rises["band"] == first["band"].iloc[0]) & (rises["decoding"] == "sampled")]
    assert len(shown) >= 4
    for row in shown.itertuples():
        assert f"{100 * row.difference:+.1f} [{100 * row.low:+.1f}, {100 * row.high:+.1f}]" in text


def test_readme_says_what_by_steps_says():
    """Accuracy at 3 and 4 steps by hand from figures/by_steps.csv."""
    import pandas as pd

    rows = pd.read_csv(PROJECT_ROOT / "figures" / "by_steps.csv")
    rows = rows[rows["steps"].isin([3, 4])]
    text = (PROJECT_ROOT / "README.md").read_text()
    for stage in ("02_sft_stage1", "03_sft_stage2"):
        mine = rows[rows["stage"] == stage].assign(right=lambda r: r["n"] * r["accuracy"])
        sums = mine.groupby("seed")[["right", "n"]].sum()
        shares = 100 * sums["right"] / sums["n"]
        assert f"{shares.mean():.1f} [{shares.min():.1f} to {shares.max():.1f}]" in text, stage


def test_every_figure_comes_in_three_forms():
    names = {p.stem for p in Path(publish.FIGURES).iterdir() if p.suffix not in (".md", ".txt")}
    assert "ladder" in names
    for name in names:
        for suffix in (".svg", ".png", ".csv"):
            assert (publish.FIGURES / f"{name}{suffix}").exists(), name + suffix


def test_edited_text_keeps_its_outputs():
    source, executed = read(PATHS[0]), read(PATHS[0])
    source.cells[0].source = "# Other words"
    merged = publish.merge_outputs(source, executed)
    assert merged.cells[0].source == "# Other words"
    assert [c.get("outputs") for c in merged.cells[1:]] == [
        c.get("outputs") for c in read(PATHS[0]).cells[1:]
    ]


def test_merging_refuses_a_copy_of_another_source():
    source, executed = read(PATHS[0]), read(PATHS[0])
    next(c for c in executed.cells if c.cell_type == "code").source = "other"
    with pytest.raises(publish.CourseError, match="another source"):
        publish.merge_outputs(source, executed)


def test_stderr_and_personal_paths_are_left_out():
    source, executed = read(PATHS[0]), read(PATHS[0])
    cell = next(c for c in executed.cells if c.cell_type == "code")
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stderr", text="noise"),
        nbformat.v4.new_output("stream", name="stdout", text=f"{PROJECT_ROOT}/x"),
    ]
    merged = publish.merge_outputs(source, executed)
    kept = next(c for c in merged.cells if c.cell_type == "code").outputs
    assert [o.text for o in kept] == ["./x"]


def test_pictures_get_smaller_once_and_stay_the_same_size():
    import base64
    import io
    import random

    from PIL import Image

    draw = random.Random(0)
    noise = Image.frombytes("RGB", (64, 64), draw.randbytes(3 * 64 * 64))
    buffer = io.BytesIO()
    noise.save(buffer, format="PNG")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    small = publish.smaller_png(encoded)
    assert len(small) < len(encoded) / 2
    assert publish.smaller_png(small) == small
    assert Image.open(io.BytesIO(base64.b64decode(small))).size == (64, 64)
