"""Badge and bootstrap cell: in every notebook, inert elsewhere, careful with what runs on Colab.

tools/colab_machine.py (`make colab`) runs the whole in an environment of Colab's versions.
"""

import json
import os
import subprocess
import sys
import tomllib
import types
import zipfile

import nbformat
import pytest
from packaging.requirements import Requirement

from tools import colab as cells
from tools import publish, slides
from trlm_utils import colab, release, repository
from trlm_utils.files import PROJECT_ROOT, CourseError
from trlm_utils.runner import parameters

PATHS = sorted(cells.NOTEBOOKS.glob("*.ipynb"))
each = pytest.mark.parametrize("path", PATHS, ids=[p.stem for p in PATHS])


def tagged(path):
    notebook = nbformat.read(path, as_version=4)
    return [c for c in notebook.cells if cells.TAG in c.metadata.get("tags", [])]


# --- the cells --------------------------------------------------------------------------


@each
def test_every_notebook_has_badge_and_bootstrap_cell(path):
    assert cells.written(path) == path.read_text(encoding="utf-8"), "run: python -m tools.colab"
    badge, bootstrap = tagged(path)
    assert repository.colab_link(path.stem) in badge.source
    assert bootstrap.source == cells.bootstrap() and repository.address() in bootstrap.source


def test_a_notebook_without_them_is_noticed(tmp_path, monkeypatch, capsys):
    notebook = json.loads(PATHS[0].read_text())
    own = [c for c in notebook["cells"] if "colab" not in c["metadata"].get("tags", [])]
    (tmp_path / PATHS[0].name).write_text(json.dumps(notebook | {"cells": own}))
    monkeypatch.setattr(cells, "NOTEBOOKS", tmp_path)
    assert cells.main(["check"]) == 1
    assert "lacks the cells" in capsys.readouterr().out
    assert cells.main([]) == 0 and cells.main(["check"]) == 0
    assert (tmp_path / PATHS[0].name).read_text() == PATHS[0].read_text()


def test_the_cell_does_nothing_elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", None)  # a call would fail
    before = list(sys.path)
    exec(cells.bootstrap(), {})
    assert sys.path == before and not list(tmp_path.iterdir())


@each
def test_they_count_neither_as_code_nor_as_output(path):
    notebook = nbformat.read(path, as_version=4)
    assert not [c for c in parameters.code_cells(path) if "google.colab" in c]
    digest = publish.source_digest(notebook)
    tagged_cells = [c for c in notebook.cells if cells.TAG in c.metadata.get("tags", [])]
    tagged_cells[1].source += "\n# another address"
    assert publish.source_digest(notebook) == digest


def test_what_the_cell_prints_is_not_published():
    source, executed = (nbformat.read(PATHS[0], as_version=4) for _ in range(2))
    (_, ran) = (c for c in executed.cells if cells.TAG in c.metadata.get("tags", []))
    ran.outputs = [nbformat.v4.new_output("stream", text="from the release")]
    merged = publish.merge_outputs(source, executed)
    assert "from the release" not in nbformat.writes(merged)
    counts = [c.execution_count for c in publish.own_cells(merged) if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_slides_show_neither():
    page = str(slides.sections(nbformat.read(PATHS[0], as_version=4).cells))
    assert "colab-badge" not in page and "google.colab" not in page


def test_on_colab_the_cell_clones_at_the_tag_and_calls_prepare(tmp_path):
    """Its own words, with a local repository of two commits as the address."""
    work, package = tmp_path / "work", tmp_path / "work" / "trlm_utils"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(work)]
    for number in (1, 2):
        (package / "colab.py").write_text(f"def prepare(*given):\n    print({number}, *given)\n")
        if number == 1:
            subprocess.run([*git, "init", "-q"], check=True)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-q", "-m", str(number)], check=True)
        if number == 1:
            subprocess.run([*git, "tag", repository.tag()], check=True)
    source = cells.bootstrap().replace(repository.address(), work.as_uri())
    fake = "import sys\nsys.modules['google.colab'] = None\nSTAGE, RECIPE = '06_grpo', 'nano'\n"
    (tmp_path / "cell.py").write_text(fake + source)
    run = [sys.executable, str(tmp_path / "cell.py")]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    for _ in range(2):  # run again, it finds its clone
        done = subprocess.run(
            run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout == "1 06_grpo nano False\n"


# --- what it calls ----------------------------------------------------------------------


def test_protected_packages_are_held_to_the_versions_that_run():
    here = {"torch": "2.11.0+cu128", "jupyter-client": "7.4.9", "transformers": "5.15.0"}
    assert colab.constraints(here) == "torch==2.11.0+cu128\njupyter-client==7.4.9\n"
    assert {"torch", "numpy", "ipython"} <= set(colab.versions())


def wheel(folder, name, version, needs=""):
    """A package of one empty module, as a wheel that pip accepts."""
    info = f"{name}-{version}.dist-info"
    needed = f"Requires-Dist: {needs}\n" if needs else ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "")
        file.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}"
        )
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


@pytest.mark.parametrize(
    "needs, protected, tornado",
    [("tornado>=2", True, "1.0"), ("tornado>=1", True, "1.0"), ("tornado>=2", False, "2.0")],
)
def test_pip_refuses_rather_than_replace(tmp_path, monkeypatch, needs, protected, tornado):
    """With pip itself, in an empty environment, from wheels in a folder."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "tornado", "1.0")
    wheel(wheels, "tornado", "2.0")
    wheel(wheels, "course", "1.0", needs)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True
    )
    offline = ["--no-index", "--find-links", str(wheels)]
    real = subprocess.run

    def pip(command, **how):
        """`colab.install`'s command, for the other environment and the little course."""
        assert command[1:4] == ["-m", "pip", "install"] and command[-2] == "-e"
        into = [sys.executable, "-m", "pip", "--python", str(python), "install"]
        return real([*into, *command[4:-2], "course"], **how)

    real(
        [*[sys.executable, "-m", "pip", "--python", str(python)], "install", "-q", *offline]
        + ["tornado==1.0"],
        check=True,
    )
    monkeypatch.setattr(colab, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr(subprocess, "run", pip)
    installed = {"tornado": "1.0"} if protected else {}
    if protected and needs == "tornado>=2":
        with pytest.raises(CourseError, match="could not install the course beside.*ERROR"):
            colab.install(installed, offline)
    else:
        colab.install(installed, offline)
    asked = [str(python), "-c", "from importlib.metadata import version; print(version('tornado'))"]
    assert real(asked, capture_output=True, text=True).stdout.strip() == tornado


def test_the_listing_of_colab_names_all_that_is_protected():
    """And the base requirements admit its versions, but of datasets and pyarrow (TRL's)."""
    lines = (PROJECT_ROOT / "tests" / "constraints" / "colab.txt").read_text().splitlines()
    listed = dict(line.lower().split("==") for line in lines if line and line[0] != "#")
    assert set(colab.PROTECTED) <= set(listed)
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    needs = [Requirement(line) for line in project["dependencies"]]
    refused = {n.name for n in needs if not n.specifier.contains(listed.get(n.name, "999"))}
    assert {name for name in refused if name in listed} == {"datasets", "pyarrow"}


def test_what_was_replaced_while_loaded_is_named():
    before, after = {"pytest": "1.0", "torch": "2.0"}, {"pytest": "9.9", "torch": "2.1"}
    found = colab.replaced_while_loaded(before, after, ["pytest", "_pytest.config", "json"])
    assert found == ["pytest"]  # torch changed too, but is not loaded


def test_a_notebook_that_needs_a_restart_says_so(monkeypatch):
    states = iter([{"pytest": "1.0"}, {"pytest": "9.9"}])
    monkeypatch.setattr(colab, "versions", lambda: next(states))
    monkeypatch.setattr(colab, "install", lambda installed: None)
    with pytest.raises(CourseError, match="^pytest had been loaded .*Restart session"):
        colab.prepare("06_grpo", "nano")


def test_without_a_release_the_cell_says_what_runs_the_stages_and_for_how_long(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TRLM_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(colab, "install", lambda installed: None)
    monkeypatch.setattr(repository, "address", lambda: tmp_path.as_uri())
    recorded = tmp_path / "recorded.yaml"
    seconds = {"00_start_here": 50, "01_data_curation": 40, "02_sft_stage1": 999}
    stages = "".join(f"    {name}: {{seconds: {n}}}\n" for name, n in seconds.items())
    recorded.write_text(f"nano:\n  machine: 2 cores\n  stages:\n{stages}")
    monkeypatch.setattr(colab, "RECORDED", recorded)
    colab.prepare("02_sft_stage1", "nano")
    text = capsys.readouterr().out
    assert f"no release archive at {tmp_path.as_uri()}/releases/download/" in text
    assert "about 2 minutes on 2 cores" in text  # 90 s
    assert "for stage in 00_start_here 01_data_curation; do" in text
    colab.prepare("13_reward_lab", "deep_dives")
    assert not capsys.readouterr().out  # reads no earlier stage


def test_earlier_stages_come_from_the_release(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRLM_RUNS_DIR", str(tmp_path / "made"))
    for name in ("00_start_here", "01_data_curation", "06_grpo"):
        (tmp_path / "made" / "nano" / name).mkdir(parents=True)
        (tmp_path / "made/nano" / name / "manifest.json").write_text('{"status": "finished"}')
    place = tmp_path / "releases" / "download" / repository.tag()
    release.build(tmp_path / "made" / "nano", place)
    monkeypatch.setenv("TRLM_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(repository, "address", lambda: tmp_path.as_uri())
    monkeypatch.setattr(colab, "install", lambda installed: None)
    colab.prepare("06_grpo", "nano")
    assert capsys.readouterr().out == "from the release: 00_start_here, 01_data_curation\n"
    assert {p.name for p in (tmp_path / "runs/nano").iterdir()} == {
        "00_start_here",
        "01_data_curation",
    }


def test_drive_keeps_the_runs(monkeypatch):
    mounted = []
    google = types.ModuleType("google.colab")
    google.drive = types.SimpleNamespace(mount=mounted.append)
    monkeypatch.setitem(sys.modules, "google.colab", google)
    monkeypatch.setenv("TRLM_RUNS_DIR", "")
    colab.keep_on_drive()
    assert mounted == ["/content/drive"]
    assert os.environ["TRLM_RUNS_DIR"] == f"/content/drive/MyDrive/{PROJECT_ROOT.name}/runs"
