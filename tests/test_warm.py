"""The next stage's kernel, ready before its turn, and as a fresh one to the notebook."""

import json
import os

import pytest

from trlm_utils.files import read_json
from trlm_utils.runner import kernel, recipes, warm


def notebook(path, *cells):
    made = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}}
    made["metadata"]["kernelspec"] = {"name": "python3", "language": "python", "display_name": "p"}
    made["cells"] = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {"tags": tags}, "source": source}
        | {"outputs": [], "execution_count": None}
        for i, (source, tags) in enumerate(cells)
    ]
    path.write_text(json.dumps(made))
    return path


@pytest.fixture
def stage(tmp_path):
    """A stage that prints its parameter, whether colorsys was there, and its beginning."""
    cells = (
        ("NUMBER: int = 1", ["parameters"]),
        ("import sys\nprint('colorsys' in sys.modules, 'colorsys' in globals())", []),
        ("import colorsys\nimport os\nprint(NUMBER, os.environ['TRLM_STAGE_STARTED'])", []),
    )
    path = notebook(tmp_path / "n.ipynb", *cells)
    return recipes.StagePlan("n", path, {"NUMBER": 7}, ())


def printed(folder):
    cells = read_json(folder / "notebook.ipynb")["cells"]
    counts = [cell["execution_count"] for cell in cells]
    return counts, ["".join(o["text"]) for c in cells for o in c["outputs"] if "text" in o]


def test_imports_are_those_of_the_cells_themselves(tmp_path):
    path = notebook(
        tmp_path / "n.ipynb",
        ("import os\nfrom json import dumps as d\nx = 1", []),
        ("%matplotlib inline", []),
        ("def f():\n    import torch\nimport os", []),
    )
    assert warm.imports(path) == "import os\nfrom json import dumps as d"


def test_a_warm_kernel_has_imported_and_is_as_a_fresh_one(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(warm.machine, "cores", lambda: 2)
    with kernel.kernels([stage, stage], needs_hub=False) as ahead:
        assert ahead.take() is None  # nothing came before the first, where it could be made
        second = ahead.take()
        kernel.execute(stage, tmp_path, False, False, second)
    counts, texts = printed(tmp_path)
    assert texts[0] == "True False\n"  # imported, but no name is set
    number, began = texts[1].split()
    assert number == "7" and float(began) >= second.began
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    kernel.execute(stage, fresh, False, False)
    assert printed(fresh)[1][0] == "False False\n"
    assert printed(fresh)[0] == counts  # cells are numbered alike
    assert not second.manager.provisioner.has_process


def test_a_kernel_from_before_an_edit_is_not_taken(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(warm, "PACKAGE", tmp_path)
    made = warm.WarmKernel(stage.notebook, dict(os.environ), [])
    (tmp_path / "module.py").write_text("")
    try:
        assert made.take(stage.notebook, {}) is None
    finally:
        made.end()
    assert not made.manager.provisioner.has_process


def test_a_notebook_that_cannot_import_says_so_itself(tmp_path, monkeypatch):
    path = notebook(tmp_path / "n.ipynb", ("import nowhere_to_be_found", []))
    stage = recipes.StagePlan("n", path, {}, ())
    made = warm.WarmKernel(path, dict(os.environ), [])
    with pytest.raises(kernel.RunFailed, match="nowhere_to_be_found"):
        kernel.execute(stage, tmp_path, False, False, made)
    assert not made.manager.provisioner.has_process
