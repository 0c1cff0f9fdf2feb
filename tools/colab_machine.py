"""Open a notebook as on Colab: on a machine with Colab's versions, from nothing but its one file.

    python3.13 -m venv runs/colab && runs/colab/bin/pip install -r tests/constraints/colab.txt
    python -m tools.colab_machine runs/colab/bin/python 06_grpo 03_sft_stage2

The repository's last commit, tagged, stands for GitHub, with the archive of `make release`; a
module ``google.colab`` stands for Colab's. Each notebook is executed in a folder of its own, as
small as in the recipe `smoke`. Afterwards the versions of the protected packages must be those
from before, and the stage must be finished. What pip is to install needs the network.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from trlm_utils import colab, release, repository
from trlm_utils.files import PROJECT_ROOT, CourseError, read_json, runs_root
from trlm_utils.runner import recipes
from trlm_utils.runner.kernel import environment
from trlm_utils.runner.parameters import WIRING


def put_online(folder: Path, archive: Path) -> Path:
    """A stand-in for the repository on GitHub, with its release; returns its work tree.

    Its address is written to its pyproject.toml, and from there into its notebooks.
    """
    work, online = folder / "work", folder / "online"
    git = ["git", "-c", "user.name=course", "-c", "user.email=course@localhost"]
    _run([*git, "clone", "-q", str(PROJECT_ROOT), str(work)])
    project = work / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    project.write_text(text.replace(repository.address(), online.as_uri()), encoding="utf-8")
    _run(
        [sys.executable, "-m", "tools.colab"], cwd=work, env=os.environ | {"PYTHONPATH": str(work)}
    )
    _run([*git, "-C", str(work), "commit", "-q", "-a", "-m", "the address"])
    _run([*git, "-C", str(work), "tag", "-f", repository.tag()])
    _run([*git, "clone", "-q", "--bare", str(work), str(online)])
    place = online / "releases" / "download" / repository.tag()
    place.mkdir(parents=True)
    shutil.copy(archive, place / release.archive_name())
    return work


def pretend(folder: Path, python: Path) -> dict[str, str]:
    """A kernel of that Python that has loaded a module ``google.colab``: the environment for it."""
    module = folder / "fake" / "google" / "colab"
    module.mkdir(parents=True)
    (module / "__init__.py").write_text("")
    start = folder / "start.py"
    start.write_text(
        f"import sys\nsys.path.append({str(folder / 'fake')!r})\nimport google.colab\n"
        "from ipykernel.kernelapp import launch_new_instance\nlaunch_new_instance()\n"
    )
    kernel = folder / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    spec = {"argv": [str(python), str(start), "-f", "{connection_file}"]}
    spec |= {"display_name": "colab", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    return {"PYTHONPATH": "", "JUPYTER_PATH": str(folder / "jupyter")}


def protected(python: Path) -> set[str]:
    """The protected packages of an environment, each as ``name==version``."""
    code = "import json\nfrom trlm_utils import colab\nprint(json.dumps(colab.versions()))"
    found = json.loads(_run([str(python), "-c", code], env={"PYTHONPATH": str(PROJECT_ROOT)}))
    return set(colab.constraints(found).split())


def open_alone(notebook: Path, folder: Path, variables: dict[str, str]) -> Path:
    """Execute a notebook in an empty folder, as small as in `smoke`; returns its stage's folder."""
    import papermill

    stages = {one.stage: one for one in recipes.load_plan("smoke").stages}
    small = stages[notebook.stem].parameters if notebook.stem in stages else {}
    given = {name: value for name, value in small.items() if name not in WIRING}
    content = folder / notebook.stem
    content.mkdir()
    with environment(variables | {"TRLM_RUNS_DIR": ""}):
        papermill.execute_notebook(
            str(notebook),
            str(content / notebook.name),
            parameters=given,
            cwd=str(content),
            kernel_name="colab",
            progress_bar=False,
        )
    cells = read_json(content / notebook.name)["cells"]
    (cell,) = (c for c in cells if c["cell_type"] == "code" and "colab" in c["metadata"]["tags"])
    print("".join("".join(output.get("text", "")) for output in cell["outputs"]).strip())
    (manifest,) = content.glob(f"course/runs/*/{notebook.stem}/manifest.json")
    return manifest.parent


def _run(command: list[str], **how) -> str:
    """Output of a command that must succeed."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **how).stdout


def main(arguments: list[str] | None = None) -> int:
    """Open the named notebooks; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.colab_machine")
    parser.add_argument(
        "python", type=lambda text: Path(text).absolute(), help="of its environment"
    )
    parser.add_argument("notebooks", nargs="+")
    parser.add_argument("--archive", type=Path, help="release archive; default: make release's")
    options = parser.parse_args(arguments)
    archive = options.archive or runs_root() / "release" / release.archive_name()
    if not archive.is_file():
        raise CourseError(f"no {archive}: run `make release` first")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work, variables = put_online(folder, archive), pretend(folder, options.python)
        before = protected(options.python)
        for notebook in options.notebooks:
            stage = open_alone(work / "notebooks" / f"{notebook}.ipynb", folder, variables)
            status = read_json(stage / "manifest.json")["status"]
            after = protected(options.python)
            print(f"{notebook}: {status}; protected packages: {' '.join(sorted(after))}")
            if status != "finished" or before != after:
                print(f"error: before it they were {' '.join(sorted(before))}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
