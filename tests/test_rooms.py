"""The house: rooms of one purpose, imports that go one way, modules a reader can take in."""

import ast
import json
from pathlib import Path

import pytest

from trlm_utils.files import PROJECT_ROOT

PACKAGE = PROJECT_ROOT / "trlm_utils"
# From the ground up: a room may import from those before it, and from itself.
FLOORS = ("", "rewards", "curation", "training", "evaluation", "runner")
LONGEST = 400  # lines
MODULES = sorted(PACKAGE.rglob("*.py")) + sorted((PROJECT_ROOT / "tools").glob("*.py"))
ENTRIES = ("__main__", "pipeline")  # `python -m`: doors into the runner, no part of the top


def imported(source):
    """Dotted names of the course's modules that a source imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return {name for name in found if name.split(".")[0] in ("trlm_utils", "tools")}


def as_module(name):
    """The longest beginning of a dotted name that is a module of the package."""
    parts = name.split(".")
    while parts:
        path = PROJECT_ROOT.joinpath(*parts)
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            return ".".join(parts)
        parts.pop()
    raise AssertionError(f"{name} is no module of the course")


def room(module):
    parts = module.split(".")
    known = len(parts) > 1 and parts[0] == "trlm_utils" and parts[1] in FLOORS
    return parts[1] if known else ""


def dotted(path):
    return ".".join(path.relative_to(PROJECT_ROOT).with_suffix("").parts)


def graph():
    """Module -> modules of the package that it imports, lazy imports included."""
    return {
        dotted(path): {as_module(name) for name in imported(path.read_text())} - {"trlm_utils"}
        for path in MODULES
        if path.is_relative_to(PACKAGE) and path.stem not in ("__init__", *ENTRIES)
    }


def test_no_import_climbs_up():
    for module, found in graph().items():
        for other in found:
            assert not other.startswith("tools"), (module, other)
            assert FLOORS.index(room(other)) <= FLOORS.index(room(module)), (module, other)


def test_no_imports_in_a_circle():
    links, done = graph(), set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in sorted(links.get(module, ())):
                visit(other, [*path, module])
            done.add(module)

    for module in links:
        visit(module, [])


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_can_be_taken_in(path):
    assert len(path.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("path", sorted((PROJECT_ROOT / "notebooks").glob("*.ipynb")), ids=str)
def test_notebooks_know_nothing_of_the_runner(path):
    cells = json.loads(Path(path).read_text())["cells"]
    source = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    assert not [name for name in imported(source) if room(name) == "runner"]
