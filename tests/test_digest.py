"""What a stage's digest covers, and what it leaves alone; on a copy of the project."""

import ast
import dataclasses
import json
import os
import re
import shutil

import pytest

from trlm_utils import files, machine
from trlm_utils.files import PROJECT_ROOT, write_json, write_text
from trlm_utils.runner import digest, parameters, recipes

PACKAGE = PROJECT_ROOT / "trlm_utils"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    unused = shutil.ignore_patterns("__pycache__")
    for name in ("trlm_utils", "notebooks", "figures"):
        shutil.copytree(PROJECT_ROOT / name, root / name, ignore=unused)
    return root


@pytest.fixture
def root(original, tmp_path, monkeypatch):
    """A copy of the project that may be edited, in the place of the project."""
    copy = shutil.copytree(original, tmp_path / "project")
    for module in (digest, files):
        monkeypatch.setattr(module, "PROJECT_ROOT", copy)
    monkeypatch.setenv("TRLM_RUNS_DIR", str(tmp_path / "runs"))
    return copy


def planned(root, name, recipe="nano", **values):
    """A stage of a recipe, its notebook from the copy, with other values for parameters."""
    plan = next(s for s in recipes.load_plan(recipe).stages if s.stage == name)
    notebook = root / "notebooks" / plan.notebook.name
    return dataclasses.replace(plan, notebook=notebook, parameters=plan.parameters | values)


def differing(plan, run, change):
    """Names of the dependencies that a change touches; the digest says the same."""
    before = digest.dependencies(plan, run)
    change()
    after = digest.dependencies(plan, run)
    names = {name for name in {**before, **after} if before.get(name) != after.get(name)}
    assert (digest.digest_of(before) != digest.digest_of(after)) == bool(names)
    return names


def appended(path, text):
    """A change: ``text`` at the end of a file, as text or bytes."""

    def change():
        path.write_bytes(path.read_bytes() + text.encode())

    return change


def in_cell(path, kind, text):
    """A change: ``text`` at the end of a notebook's last cell of a kind."""

    def change():
        notebook = json.loads(path.read_text())
        cell = [cell for cell in notebook["cells"] if cell["cell_type"] == kind][-1]
        cell["source"] = ["".join(cell["source"]) + text]
        path.write_text(json.dumps(notebook))

    return change


@pytest.mark.parametrize(
    ("stage", "file", "name"),
    [
        ("02_sft_stage1", "training/optimizers.py", "module trlm_utils.training.optimizers"),
        # chat is imported by many, nanoworld by data_sets, which preflight imports in a function
        ("04_dpo", "chat.py", "module trlm_utils.chat"),
        ("04_dpo", "families.py", "module trlm_utils.families"),
        ("02_sft_stage1", "rewards/__init__.py", "module trlm_utils.rewards"),
        ("02_sft_stage1", "templates/chatml.jinja", "files trlm_utils/templates"),
        ("07_evaluation", "evaluation/suites/tina.yaml", "files trlm_utils/evaluation/suites"),
        (
            "07_evaluation",
            "evaluation/tasks/think_greedy.yaml",
            "files trlm_utils/evaluation/tasks",
        ),
        (
            "00_start_here",
            "architecture_files/gemma-2-2b-it.json",
            "files trlm_utils/architecture_files",
        ),
    ],
)
def test_code_and_the_files_beside_it_count(root, tmp_path, stage, file, name):
    change = appended(root / "trlm_utils" / file, "\nnew = 1\n")
    assert differing(planned(root, stage), tmp_path, change) == {name}


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("02_sft_stage1", "runner/report.py"),
        ("02_sft_stage1", "evaluation/suites.py"),  # 02 does not import it
        ("02_sft_stage1", "evaluation/suites/tina.yaml"),
        ("02_sft_stage1", "plots.py"),
        ("07_evaluation", "plots.py"),
        ("00_start_here", "doctor.py"),
        ("06_grpo", "training/hub.py"),
        ("06_grpo", "training/trackers.py"),
        ("07_evaluation", "training/sft.py"),
    ],
)
def test_what_a_stage_does_not_use_does_not_count(root, tmp_path, stage, file):
    change = appended(root / "trlm_utils" / file, "\nnew = 1\n")
    assert differing(planned(root, stage), tmp_path, change) == set()


def test_where_log_and_results_are_copied_to_does_not_count(root, tmp_path):
    def found(**values):
        return digest.inputs_digest(planned(root, "06_grpo", **values), tmp_path)

    assert found() == found(TRACKER="tensorboard", PUSH_TO="me/tiny", RUN_DIR="elsewhere")
    assert found() != found(KL_BETA=0.5)


def test_imports_are_followed_into_functions_and_no_further(root):
    for name, text in {
        "a": "def f():\n    from trlm_utils.b import thing\n",
        "b": "import trlm_utils.c\nfrom trlm_utils import plots\n",
        "c": "thing = 1\n",
        "d": "from trlm_utils import a\n",
    }.items():
        write_text(root / "trlm_utils" / f"{name}.py", text)
    found = digest.modules(["import math\nfrom trlm_utils import a"])
    assert list(found) == ["trlm_utils", "trlm_utils.a", "trlm_utils.b", "trlm_utils.c"]


def test_comments_layout_and_what_a_notebook_shows_do_not_count(root, tmp_path):
    plan = planned(root, "02_sft_stage1")
    path = root / "trlm_utils" / "chat.py"

    def change():
        path.write_text("# a comment\n\n" + path.read_text() + "\n\n# another\n")
        in_cell(plan.notebook, "markdown", " more words")()
        in_cell(plan.notebook, "code", "  # a comment")()
        os.utime(path, ns=(0, 0))

    assert differing(plan, tmp_path, change) == set()


def test_code_cells_count_with_magics_and_even_where_they_are_no_python(root, tmp_path):
    plan = planned(root, "02_sft_stage1")
    for text in ("\nnew = 1", "\n%time new", "\nthis is no python"):
        assert differing(plan, tmp_path, in_cell(plan.notebook, "code", text)) == {"notebook"}


def test_parameters_count_but_not_where_the_run_lies(root, tmp_path):
    plan = planned(root, "02_sft_stage1")
    before = digest.inputs_digest(plan, tmp_path)
    moved = planned(root, "02_sft_stage1", RUN_DIR="/elsewhere")
    assert digest.inputs_digest(moved, tmp_path) == before
    other = planned(root, "02_sft_stage1", EPOCHS=2.0)
    assert digest.inputs_digest(other, tmp_path) != before
    assert digest.changes(
        {"depends_on": digest.dependencies(plan, tmp_path)}, digest.dependencies(other, tmp_path)
    ) == ["parameter EPOCHS"]


def test_where_the_project_lies_does_not_count(root, original, tmp_path, monkeypatch):
    before = digest.inputs_digest(planned(root, "07_evaluation"), tmp_path)
    for module in (digest, files):
        monkeypatch.setattr(module, "PROJECT_ROOT", original)
    assert digest.inputs_digest(planned(original, "07_evaluation"), tmp_path) == before


def test_versions_of_packages_count(root, tmp_path, monkeypatch):
    plan = planned(root, "02_sft_stage1")
    real = machine.version

    def change():
        new = {"accelerate": "999"}
        monkeypatch.setattr(machine, "version", lambda name: new.get(name) or real(name))

    assert differing(plan, tmp_path, change) == {"package accelerate"}


def test_outputs_of_the_stages_that_are_read_count_and_no_others(root, tmp_path):
    def change():
        for stage in ("00_start_here", "05_grpo_rewards"):
            write_json(tmp_path / stage / "manifest.json", {"outputs": "new"})

    assert differing(planned(root, "02_sft_stage1"), tmp_path, change) == {"stage 00_start_here"}


@pytest.mark.parametrize(
    ("stage", "parameter"),
    [
        ("00_start_here", "BASE_MODEL"),
        ("01_data_curation", "DATA_DIR"),
        ("01_data_curation", "HUB_MIRROR"),
        ("07_evaluation", "SUITE_DIR"),
    ],
)
def test_all_files_below_a_folder_that_a_parameter_names_count(root, tmp_path, stage, parameter):
    nested = tmp_path / "given" / "part" / "table.csv"
    write_text(nested, "a,b\n")
    plan = planned(root, stage, **{parameter: str(tmp_path / "given")})
    only = {f"files {parameter}"}
    assert differing(plan, tmp_path, appended(nested, "1,2\n")) == only
    assert differing(plan, tmp_path, lambda: nested.rename(nested.with_suffix(".tsv"))) == only
    assert differing(plan, tmp_path, lambda: write_text(tmp_path / "given/new.gz", "")) == only
    assert differing(plan, tmp_path, lambda: os.utime(tmp_path / "given/new.gz", (0, 0))) == set()


def test_a_model_in_one_file_counts_and_a_name_on_the_hub_is_no_file(root, tmp_path):
    file = root / "small.gguf"
    write_text(file, "weights")
    plan = planned(root, "00_start_here", BASE_MODEL="small.gguf")  # from the project, as in 00
    assert differing(plan, tmp_path, appended(file, "!")) == {"files BASE_MODEL"}
    hub = planned(root, "00_start_here", BASE_MODEL="owner/name")
    assert differing(hub, tmp_path, lambda: None) == set()


@pytest.mark.parametrize("path", ["{DATA_DIR}/rows", "rows", "rows/**/*.parquet"])
def test_sources_of_a_mixture_count(root, tmp_path, path):
    folder = "given" if "DATA_DIR" in path else "."
    file = root / folder / "rows" / "deep" / "part.parquet"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PAR1")
    source = {"path": path if "DATA_DIR" in path else str(root / path)}
    values = {"SOURCE": "mixture", "MIXTURE": {"sft_stage1": {"sources": [source]}}}
    plan = planned(root, "01_data_curation", **values)
    if "DATA_DIR" in path:
        plan.parameters["DATA_DIR"] = str(root / folder)
    found = differing(plan, tmp_path, appended(file, "PAR1"))
    assert "files MIXTURE sft_stage1 0" in found


def test_tables_of_the_deep_dives_count_wherever_they_are_found(root, tmp_path):
    plan = planned(root, "10_ablations", "deep_dives")

    def last_run():
        write_text(tmp_path / "runs" / "nano" / "ablations.csv", "a\n")

    assert differing(plan, tmp_path, last_run) == {"table ablations"}
    write_text(root / "mine.csv", "a\n")
    mine = planned(root, "10_ablations", "deep_dives", TABLE="mine.csv")
    assert differing(mine, tmp_path, appended(root / "mine.csv", "1\n")) == {"table ablations"}
    assert differing(mine, tmp_path, last_run) == set()
    lab = planned(root, "13_reward_lab", "deep_dives", RECORDED=str(root / "mine.csv"))
    assert differing(lab, tmp_path, appended(root / "mine.csv", "2\n")) == {"table model_group"}


def test_reward_files_count_also_those_that_notebook_05_chose(root, tmp_path):
    file = root / "my_rewards.py"
    write_text(file, "def politeness(completions, **_): ...\n")
    weights = {"accuracy": 1.0, "my_rewards.py:politeness": 0.5}
    change = appended(file, "# longer\n")
    plan = planned(root, "05_grpo_rewards", REWARD_WEIGHTS=weights)
    assert differing(plan, tmp_path, change) == {"files my_rewards.py"}
    write_json(tmp_path / "05_grpo_rewards" / "data" / "rewards.json", weights)
    assert differing(planned(root, "06_grpo"), tmp_path, change) == {"files my_rewards.py"}
    unread = planned(root, "06_grpo", REWARDS_FROM="")
    assert differing(unread, tmp_path, change) == set()


def test_large_files_are_read_once_while_size_time_and_inode_stay(tmp_path):
    file, place = tmp_path / "large.bin", tmp_path / ".hashes.json"
    file.write_bytes(b"a" * digest.LARGE)
    hashes = digest.FileHashes(place)
    real = hashes.file(file)
    hashes.save()
    known = json.loads(place.read_text())
    known[str(file)][3] = "remembered"
    place.write_text(json.dumps(known))
    assert digest.FileHashes(place).file(file) == "remembered"
    os.utime(file, ns=(1, 1))
    assert digest.FileHashes(place).file(file) == real
    place.write_text("{")
    assert digest.FileHashes(place).file(file) == real


# --- what the digest stands on ---------------------------------------------------------


def test_modules_name_files_beside_them_only_as_the_digest_reads_it():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        uses = re.findall(r"(?<!\w)__file__", re.sub(r"\w+\.__file__", "", text))
        if not path.is_relative_to(PACKAGE / "runner") and path.name != "files.py":
            assert len(uses) == len(digest.beside(path, text)), path


def test_modules_import_by_full_names():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), path


def test_every_parameter_that_names_files_is_known():
    """Their help text says file, folder or table; RUN_DIR is where results go."""
    known = {*digest.PATHS, "RUN_DIR"}
    for notebook in sorted((PROJECT_ROOT / "notebooks").glob("*.ipynb")):
        cells = parameters.code_cells(notebook)
        tables = {name for _, name in digest._tables(cells)}
        for line in next(cell for cell in cells if cell.startswith("STAGE")).splitlines():
            name, _, rest = line.partition(":")
            if re.search(r"\b(files?|folder|tables?)\b", rest.partition("#")[2]):
                assert name in known | tables, (notebook.name, name)


def test_what_only_shows_exists_and_is_none_of_what_computes():
    modules = {
        ".".join(path.relative_to(PROJECT_ROOT).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
    }
    assert set(digest.SHOWS) <= modules
    for notebook in sorted((PROJECT_ROOT / "notebooks").glob("*.ipynb")):
        assert not set(digest.modules(parameters.code_cells(notebook))) & set(digest.SHOWS)
