"""One hash (digest) of everything that a stage's result depends on: equal hash, equal result.

The dependencies are found automatically:

- the code cells of its notebook, and its parameters except those in `NO_INPUTS`: where it
  runs, and where its log and its results are copied to;
- the modules of the package that the notebook imports, directly or indirectly, including
  lazy imports. Comments and layout of code do not count, docstrings do;
- data files of those modules, which a module names by ``Path(__file__).with_name("...")``;
- the contents of files that its parameters name: the files and folders in PATHS, ``path``
  sources of a mixture, tables that `evaluation.arms` finds, files with custom rewards
  (``my_rewards.py:politeness``);
- the versions of Python and of the packages that results depend on;
- the outputs of the stages that it reads.

Modules in SHOWS, and their imports, do not count: they draw or measure, and do not change any
model, data set or metric. So after a change to a plot a finished stage stays finished (with
the old figure; ``--force --only STAGE`` draws it again) and an unfinished one is resumed.

Not covered: data on the Hub, the device, and modules that a custom reward file imports.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import json
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from trlm_utils import machine
from trlm_utils.curation import sources
from trlm_utils.evaluation import arms
from trlm_utils.files import (
    PROJECT_ROOT,
    CourseError,
    file_digest,
    from_root,
    read_json,
    write_json,
)
from trlm_utils.rewards import own
from trlm_utils.runner.parameters import code_cells
from trlm_utils.runner.recipes import StagePlan
from trlm_utils.stage import outputs_digest

SHOWS = {  # modules that do not influence results, with the reason
    "trlm_utils.plots": "draws tables that were computed elsewhere",
    "trlm_utils.slide": "draws tables that were computed elsewhere",
    "trlm_utils.titles": "says what such tables hold",
    "trlm_utils.evaluation.arm_plots": "draws tables that were computed elsewhere",
    "trlm_utils.evaluation.ladder_plots": "draws tables that were computed elsewhere",
    "trlm_utils.rewards.reward_plots": "draws tables that were computed elsewhere",
    "trlm_utils.progress": "tells how far a stage is",
    "trlm_utils.doctor": "prints what this machine has",
    "trlm_utils.exercise": "checks what a reader wrote, after the training",
    "trlm_utils.rocm": "is read by the doctor alone",
    "trlm_utils.energy": "reads a counter of the processor into the manifest",
    "trlm_utils.training.trackers": "copies the log to a tracker",
    "trlm_utils.training.hub": "copies results to the Hub",
}
NO_INPUTS = ("RUN_DIR", "TRACKER", "PUSH_TO")  # parameters that do not influence results
PATHS = ("BASE_MODEL", "DATA_DIR", "HUB_MIRROR", "SUITE_DIR")  # parameters with a path
TABLES = ("arms.read_table", "arms.find_table")  # functions with which a notebook reads a table
PACKAGES = (
    *machine.PACKAGES,
    *("accelerate", "tokenizers", "safetensors", "numpy", "pandas", "jinja2"),
    *("pytorch_optimizer", "latex2sympy2_extended", "sympy", "datasketch", "langdetect"),
    *("py3langid", "nltk", "orjson"),
)
LARGE = 1 << 20  # bytes; hashes of files of at least this size are cached


def inputs_digest(plan: StagePlan, run: Path) -> str:
    """SHA-256 over everything that a stage's result depends on.

    Args:
        run: folder of the run, with the outputs of the stages that this stage reads.
    """
    return digest_of(dependencies(plan, run))


def digest_of(found: dict[str, str]) -> str:
    """SHA-256 of `dependencies`."""
    return _sha(json.dumps(found, sort_keys=True))


def dependencies(plan: StagePlan, run: Path) -> dict[str, str]:
    """Everything that a stage's result depends on: name -> hash or version."""
    cells = [_python(cell) for cell in code_cells(plan.notebook)]
    found = {"notebook": _sha("\0".join(map(_normal, cells)))}
    for name, value in parameters(plan).items():
        found[f"parameter {name}"] = _sha(json.dumps(value, sort_keys=True))
    hashes = FileHashes(run / ".hashes.json")
    for name, path in modules(cells).items():
        text = path.read_text(encoding="utf-8")
        found[f"module {name}"] = _sha(_normal(text))
        for place in beside(path, text):
            found[f"files {place.relative_to(PROJECT_ROOT)}"] = hashes.of(place)
    for name, place in named_files(plan, cells, run):
        found[name] = hashes.of(*place)
    hashes.save()
    for name in PACKAGES:
        found[f"package {name}"] = machine.version_of(name)
    found["package python"] = ".".join(platform.python_version_tuple()[:2])
    for stage in plan.reads:
        found[f"stage {stage}"] = read_manifest(run / stage).get("outputs", "")
    return found


def parameters(plan: StagePlan) -> dict[str, Any]:
    """A stage's parameters that its result depends on: without `NO_INPUTS`."""
    return {name: value for name, value in plan.parameters.items() if name not in NO_INPUTS}


# --- code ---------------------------------------------------------------------------


def modules(texts: Iterable[str]) -> dict[str, Path]:
    """Dotted name -> file, for all modules of the package that sources import, recursively."""
    found: dict[str, Path] = {}
    left = [name for text in texts for name in _imported(text)]
    while left:
        name = left.pop()
        path = _module_file(name)
        if path is None or name in found or name in SHOWS:
            continue
        found[name] = path
        left += _imported(path.read_text(encoding="utf-8"))
    return dict(sorted(found.items()))


def _module_file(name: str) -> Path | None:
    """The file of a dotted name; None if it names a function or class in a module."""
    place = PROJECT_ROOT.joinpath(*name.split("."))
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in files if path.is_file()), None)


@functools.cache
def _imported(text: str) -> tuple[str, ...]:
    """Dotted names in the package that a source imports, and their parent packages."""
    names = set()
    for node in ast.walk(_tree(text)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    inside = [name.split(".") for name in names if name.split(".")[0] == "trlm_utils"]
    return tuple({".".join(parts[:n]) for parts in inside for n in range(1, len(parts) + 1)})


@functools.cache
def _normal(text: str) -> str:
    """Normalised code: without comments and layout, but with docstrings."""
    return ast.unparse(_tree(text))


@functools.cache
def _tree(text: str) -> ast.Module:
    """Parsed code; code with a syntax error counts as plain text, and fails when it is run."""
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.Module([ast.Expr(ast.Constant(text))], [])


def _python(cell: str) -> str:
    """A cell's source with IPython's syntax (``%magic``, ``!command``) converted to calls."""
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager().transform_cell(cell)


# --- files --------------------------------------------------------------------------


def beside(path: Path, text: str) -> list[Path]:
    """Files that a module names by ``Path(__file__).with_name("...")``."""
    return [
        path.with_name(node.args[0].value)
        for node in _calls(text)
        if ast.unparse(node.func) == "Path(__file__).with_name"
        and isinstance(node.args[0], ast.Constant)
    ]


def named_files(
    plan: StagePlan, cells: Iterable[str], run: Path
) -> Iterator[tuple[str, list[Path]]]:
    """Files and folders that a stage's parameters name: (name of the dependency, paths)."""
    values = plan.parameters
    for name in PATHS:
        if values.get(name):
            yield f"files {name}", [from_root(values[name])]
    for data_set, spec in (values.get("MIXTURE") or {}).items():
        for number, source in enumerate(spec.get("sources", ())):
            if "path" in source:
                found = []
                with contextlib.suppress(CourseError):  # missing: the notebook reports it
                    found = sources.files_of(sources.placed(source, values.get("DATA_DIR", "")))
                yield f"files MIXTURE {data_set} {number}", found
    for table, parameter in _tables(cells):
        given = values.get(parameter, "")
        found = []
        with contextlib.suppress(CourseError):  # missing: reported by the notebook
            found = [arms.find_table(table, str(from_root(given)) if given else "")]
        yield f"table {table}", found
    for path in reward_files(plan, run):
        yield f"files {path}", [from_root(path)]


def reward_files(plan: StagePlan, run: Path) -> list[str]:
    """Custom rewards (``PATH.py:FUNCTION``) in any mix of rewards of a stage."""
    tables = [value for value in plan.parameters.values() if isinstance(value, dict)]
    chosen = run / plan.parameters.get("REWARDS_FROM", "") / "data" / "rewards.json"
    if chosen.is_file():
        with contextlib.suppress(CourseError):  # damaged: the notebook reports it
            tables.append(read_json(chosen))
    keys = {key for table in tables for key in table if own.is_own(key)}
    return sorted({key.rpartition(":")[0] for key in keys})


def _tables(cells: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names of the tables that cells read, with the parameter that may give the path."""
    for node in (node for cell in cells for node in _calls(cell)):
        if ast.unparse(node.func) in TABLES and isinstance(node.args[0], ast.Constant):
            where = [a.id for a in node.args if isinstance(a, ast.Name) and a.id.isupper()]
            yield node.args[0].value, where[-1] if where else ""


def _calls(text: str) -> Iterator[ast.Call]:
    """All calls in a source that have at least one positional argument."""
    nodes = ast.walk(_tree(text))
    return (node for node in nodes if isinstance(node, ast.Call) and node.args)


class FileHashes:
    """SHA-256 of files and folders, with a cache for large files.

    A large file counts as unchanged if path, size, modification time (ns) and inode are
    unchanged. So an edit that keeps the size and resets the time is not noticed; delete the
    cache file to have all files read again. Small files are always read.

    Args:
        place: the JSON file of the cache.
    """

    def __init__(self, place: Path):
        self.place = place
        self.known: dict[str, list[Any]] = {}
        self.changed = False
        with contextlib.suppress(CourseError):  # missing or damaged: read all files again
            self.known = read_json(place)

    def of(self, *places: Path) -> str:
        """Hash of the names and contents of files, and of all files in folders."""
        digest = hashlib.sha256()
        for place in places:
            inside = sorted(place.rglob("*")) if place.is_dir() else [place]
            for path in inside:
                if path.is_file() and "__pycache__" not in path.parts:
                    name = str(path.relative_to(place.parent))
                    digest.update(f"{name}\0{self.file(path)}\n".encode())
        return digest.hexdigest()

    def file(self, path: Path) -> str:
        """SHA-256 of one file."""
        state = path.stat()
        key, seen = str(path), [state.st_size, state.st_mtime_ns, state.st_ino]
        if self.known.get(key, [])[:3] == seen:
            return self.known[key][3]
        found = file_digest(path)
        if state.st_size >= LARGE:
            self.known[key] = [*seen, found]
            self.changed = True
        return found

    def save(self) -> None:
        """Write the cache; a failure to do so only costs time."""
        if self.changed:
            with contextlib.suppress(OSError):
                write_json(self.place, self.known)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- manifests ----------------------------------------------------------------------


def read_manifest(folder: Path) -> dict[str, Any]:
    """A stage's manifest; {} if it is missing or damaged."""
    try:
        return read_json(folder / "manifest.json")
    except CourseError:
        return {}


def changes(manifest: dict[str, Any], found: dict[str, str]) -> list[str]:
    """Names of the dependencies that differ from those in a manifest; empty if it has none."""
    before = manifest.get("depends_on", {})
    names = {**before, **found} if before else {}
    return [name for name in names if before.get(name) != found.get(name)]


def says_finished(manifest: dict[str, Any], digest: str) -> bool:
    """Whether a manifest says that its stage was finished with these inputs."""
    return manifest.get("status") == "finished" and manifest.get("inputs") == digest


def is_finished(folder: Path, digest: str) -> bool:
    """Whether a stage is finished with these inputs and its outputs are unchanged."""
    manifest = read_manifest(folder)
    return says_finished(manifest, digest) and manifest.get("outputs") == outputs_digest(folder)
