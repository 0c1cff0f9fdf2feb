"""The repository's address, read from ``pyproject.toml``, the only file that states it."""

from __future__ import annotations

import tomllib

from trlm_utils.files import PROJECT_ROOT, CourseError

PYPROJECT = PROJECT_ROOT / "pyproject.toml"
GITHUB = "https://github.com/"


def address() -> str:
    """The repository's address, without a slash at its end.

    Raises:
        CourseError: when pyproject.toml is missing or names none.
    """
    try:
        return _project()["urls"]["Repository"].rstrip("/")
    except KeyError:
        raise CourseError("pyproject.toml: [project.urls] names no Repository") from None


def tag() -> str:
    """The git tag of this version's release: ``v`` and the version of pyproject.toml."""
    return f"v{_project()['version']}"


def asset(name: str) -> str:
    """Address of a file that is attached to this version's release on GitHub."""
    return f"{address()}/releases/download/{tag()}/{name}"


def colab_link(notebook: str) -> str:
    """Address that opens a notebook, as of this version's tag, on Colab.

    Args:
        notebook: the notebook's name without ``.ipynb``.
    """
    name = address().removeprefix(GITHUB)
    return (
        f"https://colab.research.google.com/github/{name}/blob/{tag()}/notebooks/{notebook}.ipynb"
    )


def _project() -> dict:
    """The table ``[project]`` of pyproject.toml."""
    try:
        return tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    except FileNotFoundError:
        raise CourseError("pyproject.toml is missing: use a clone of the repository") from None
