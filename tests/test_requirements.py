"""What is imported is required, what is required is imported, and both are pinned."""

import ast
import json
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from trlm_utils.files import PROJECT_ROOT

PROJECT = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# module -> package, where they differ
NAMES = {"yaml": "pyyaml", "PIL": "pillow", "dotenv": "python-dotenv"}
OPTIONAL = {  # imported only where they are installed, or where somebody else brings them
    "google": "google.colab, which Colab has",
    "nltk": "real",
    "trackio": "trackers",
    "vllm": "wants a GPU, and its own version of torch: trl[vllm]",
    "pynvml": "comes with an NVIDIA driver's tools; without it no energy is read",
    "pillow": "comes with matplotlib",
    "pygments": "comes with nbconvert",
}


# Extras that the course runs and is tested without: their versions are not pinned
UNPINNED = {"trackers", "llamacpp"}
PINNED = [extra for extra in EXTRAS if extra not in UNPINNED]


def source(path):
    if path.suffix == ".py":
        return path.read_text()
    cells = json.loads(path.read_text())["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def imports(paths):
    """Packages that files import, wherever they do, by the names that pip knows."""
    found = set()
    for node in (node for path in paths for node in ast.walk(ast.parse(source(path)))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    found -= {*sys.stdlib_module_names, "trlm_utils", "tools"}
    return {canonicalize_name(NAMES.get(name, name)) for name in found} - set(OPTIONAL)


def required(*extras):
    """Packages of the base and of extras, those of the extras that these name included."""
    found = set()
    for line in [*PROJECT["dependencies"], *(x for name in extras for x in EXTRAS[name])]:
        one = Requirement(line)
        if one.name == PROJECT["name"]:
            found |= required(*one.extras)
        else:
            found.add(canonicalize_name(one.name))
    return found


def files(folder, pattern="*.py"):
    return sorted((PROJECT_ROOT / folder).rglob(pattern))


LIBRARY = [path for path in files("trlm_utils") if "runner" not in path.parts]


def test_the_base_is_what_notebooks_and_library_import():
    assert imports([*files("notebooks", "*.ipynb"), *LIBRARY]) == required()


def test_the_runner_needs_the_extra_run_and_several_jobs_their_own():
    engine = PROJECT_ROOT / "trlm_utils" / "runner" / "jobs.py"
    others = [path for path in files("trlm_utils/runner") if path != engine]
    found = imports(others) | {"ipykernel"}  # what papermill starts
    assert found - required() == required("run") - required()
    assert imports([engine]) - required("run") == required("jobs") - required("run")


def test_the_tools_need_no_more_than_the_extra_test():
    assert imports(files("tools")) <= required("test")


def pins():
    """Package -> version, of requirements.txt."""
    lines = (PROJECT_ROOT / "requirements.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in found}


@pytest.mark.parametrize("extra", [None, *PINNED])
def test_every_requirement_is_pinned_within_its_range(extra):
    for line in EXTRAS[extra] if extra else PROJECT["dependencies"]:
        one = Requirement(line)
        if one.name != PROJECT["name"]:
            assert one.specifier.contains(pins()[canonicalize_name(one.name)]), line


def test_every_pin_is_a_requirement():
    assert set(pins()) - {"setuptools"} == required(*PINNED)
