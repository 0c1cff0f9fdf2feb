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
    "08_use_it",
    "09_real_model",
    "10_ablations",
    "11_reward_models",
    "12_algorithms",
    "13_reward_lab",
    "14_signals",
]
each = pytest.mark.parametrize("path", PATHS, ids=[p.stem for p in PATHS])


def read(path):
    return nbformat.read(path, as_version=4)


def code(path):
    """Sources of code cells, without the one for Colab (test_colab.py)."""
    return [c.source for c in publish.own_cells(read(path)) if c.cell_type == "code"]


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
    first, second = [c for c in read(path).cells if c.cell_type == "code"][:2]
    folded = [first] if first.metadata["tags"] == ["settings"] else []
    seen = second if folded else first
    assert seen.metadata["tags"] == ["parameters"]
    # papermill cannot read a help text that holds an equals sign
    for line in [*seen.source.splitlines(), *(x for c in folded for x in c.source.splitlines())]:
        assert "=" not in line.partition("#")[2], line


@each
def test_fewer_than_twelve_parameters_are_in_view_and_the_rest_folded_before_them(path):
    """What papermill injects comes after its own cell: settings after that would win."""
    import papermill

    in_view = set(papermill.inspect_notebook(str(path)))
    cells = read(path).cells
    folded = [c for c in cells if "settings" in c.metadata.get("tags", [])]
    assert in_view and len(in_view) < 12
    declared = set(parameters.read_parameters(path))
    assert declared >= in_view and (declared == in_view) == (not folded)
    for cell in folded:
        assert cell.metadata["jupyter"]["source_hidden"] and cell.metadata["cellView"] == "form"
        after = cells[cells.index(cell) + 1]
        assert "parameters" in after.metadata["tags"]


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


def table(name):
    import pandas as pd

    return pd.read_csv(PROJECT_ROOT / "figures" / f"{name}.csv")


def test_readme_table_is_that_of_the_committed_tables():
    """The numbers shown are the numbers in figures/ladder.csv and figures/rises.csv."""
    ladder, rises = table("ladder"), table("rises")
    text = (PROJECT_ROOT / "README.md").read_text()
    first = ladder[ladder["band"] == ladder["band"].iloc[0]]
    groups = first.groupby(["stage", "form", "decoding"])["accuracy"]
    assert len(groups) >= 20
    for name, accuracies in groups:
        low, high = 100 * accuracies.min(), 100 * accuracies.max()
        ends = f" [{low:.1f} to {high:.1f}]" if len(accuracies) > 1 else ""
        assert f"{100 * accuracies.mean():.1f}{ends}" in text, name
    shown = rises[(rises["band"] == first["band"].iloc[0]) & (rises["decoding"] == "sampled")]
    shown = shown[(shown["from_form"] == "chat") & (shown["form"] == "chat")]
    assert len(shown) >= 4
    for row in shown.itertuples():
        assert f"{100 * row.difference:+.1f} [{100 * row.low:+.1f}, {100 * row.high:+.1f}]" in text


def by_seed(rows, count="checked"):
    """Share of each seed's answers, from rows of figures/by_steps.csv, in %."""
    sums = rows.assign(got=rows["n"] * rows[count]).groupby("seed")[["got", "n"]].sum()
    return 100 * sums["got"] / sums["n"]


@pytest.mark.parametrize("steps", [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10)])
@pytest.mark.parametrize("stage", ["02_sft_stage1", "03_sft_stage2", "04_dpo", "06_grpo"])
def test_readme_says_what_by_steps_says(stage, steps):
    """Right in every step, by hand from figures/by_steps.csv."""
    rows = table("by_steps").query("stage == @stage and form == 'chat' and steps in @steps")
    text = (PROJECT_ROOT / "README.md").read_text()
    for decoding in ("greedy", "sampled"):
        (line,) = [x for x in text.split("\n") if x.startswith(f"| {stage}, {decoding} |")]
        cell = line.split(" | ")[1 + steps[0] // 2]
        mean, low, high = map(float, re.findall(r"[\d.]+", cell))
        shares = by_seed(rows[rows["decoding"] == decoding])
        found = [shares.mean(), shares.min(), shares.max()]
        assert [mean, low, high] == pytest.approx(found, abs=0.051)  # rounded to one decimal


def test_the_ladder_holds_against_the_base_model_at_its_best():
    """The base model knows the pieces and no chains; stage 2 teaches them; DPO and GRPO raise
    what is sampled, in every seed above the bar; all asked of the committed tables."""
    steps, ladder, rises = table("by_steps"), table("ladder"), table("rises")
    base = steps.query("stage == '00_start_here'")
    assert by_seed(base.query("steps == 1 and form == 'plain' and decoding == 'greedy'")).min() > 90
    for (form, decoding), rows in base.query("steps >= 3").groupby(["form", "decoding"]):
        assert by_seed(rows, "accuracy").mean() <= 15, (form, decoding)
    chains = steps.query("steps in (3, 4) and decoding == 'greedy'")
    best = max(
        by_seed(rows, "accuracy").mean()
        for _, rows in chains.query("stage == '00_start_here'").groupby("form")
    )
    chat = chains.query("form == 'chat'")
    first, second = (
        by_seed(chat[chat["stage"] == s], "accuracy").mean()
        for s in ("02_sft_stage1", "03_sft_stage2")
    )
    assert second >= best + 50 and second >= first + 50
    own = rises.query("band == 'in_distribution' and decoding == 'sampled' and from_form == 'chat'")
    own = own.query("form == 'chat'").set_index("to")
    assert own.loc["04_dpo", "low"] > 0 and own.loc["06_grpo", "low"] > 0
    last = ladder.query("stage == '06_grpo' and band == 'in_distribution' and form == 'chat'")
    bars = last.groupby("decoding")["accuracy"].min()
    assert bars["greedy"] >= 0.95 and bars["sampled"] >= 0.85 and last["seed"].nunique() >= 5


def test_every_figure_comes_in_three_forms():
    files = [p for p in Path(publish.FIGURES).iterdir() if p.is_file()]  # pictures/ has its own
    names = {p.stem for p in files if p.suffix not in (".md", ".txt")}
    names -= set(publish.BESIDE)  # shown by notebooks as tables
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


def test_names_of_cells_leave_a_table_that_has_no_style_for_them():
    cell = '<td id="T_1a_row0_col0" class="data row0 col0" >4</td>'
    assert publish.plainer_table(f"<table>\n  {cell}\n</table>") == "<table><td>4</td></table>"
    styled = f"<style>#T_1a_row0_col0 {{color: red}}</style><table>{cell}</table>"
    assert publish.plainer_table(styled) == styled


def test_pictures_get_smaller_once_and_stay_the_same_size():
    import base64
    import io
    import random

    from PIL import Image

    draw = random.Random(0)
    noise = Image.frombytes("RGB", (1600, 16), draw.randbytes(3 * 1600 * 16))
    buffer = io.BytesIO()
    noise.save(buffer, format="PNG")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    small = publish.smaller_png(encoded)
    assert len(small) < len(encoded) / 2
    assert publish.smaller_png(small) == small
    assert Image.open(io.BytesIO(base64.b64decode(small))).size == (800, 8)


def test_every_colour_is_kept_in_a_smaller_picture():
    import base64
    import io

    from PIL import Image

    picture = Image.new("RGB", (1280, 720), "#DCE7F1")
    for k in range(500):  # many shades of blue
        picture.paste((k // 2, k // 3 + 80, 255 - k // 3), (2 * k, 0, 2 * k + 2, 300))
    picture.paste("#D55E00", (600, 400, 640, 440))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    small = publish.smaller_png(base64.b64encode(buffer.getvalue()).decode())
    found = Image.open(io.BytesIO(base64.b64decode(small)))
    assert found.size == (800, 450)
    assert found.mode == "RGB"  # and no palette
    assert found.getpixel((387, 262)) == (0xD5, 0x5E, 0)  # 620, 420 before


def test_one_seed_does_not_replace_what_stands_on_several(tmp_path, monkeypatch):
    figures = tmp_path / "run" / "00_start_here" / "figures"
    figures.mkdir(parents=True)
    for name in ("base_training", "ladder", "controls"):
        (figures / f"{name}.csv").write_text(name)
    monkeypatch.setattr(publish, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(publish, "publish_notebooks", lambda runs: [])
    assert publish.publish_seed([tmp_path / "run"]) == ["base_training.csv"]
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["base_training.csv"]
