"""The repository's address: one place states it, everything else is made from it."""

import subprocess

import pytest

from trlm_utils import repository
from trlm_utils.files import PROJECT_ROOT, CourseError


@pytest.fixture
def stated(tmp_path, monkeypatch):
    """Use another pyproject.toml with these lines."""

    def write(*lines):
        path = tmp_path / "pyproject.toml"
        path.write_text("\n".join(lines))
        monkeypatch.setattr(repository, "PYPROJECT", path)

    return write


def test_addresses_are_made_from_the_one_in_pyproject(stated):
    url = 'Repository = "https://github.com/someone/course/"'
    stated("[project]", 'version = "2.5"', "[project.urls]", url)
    assert repository.address() == "https://github.com/someone/course"
    assert repository.tag() == "v2.5"
    assert repository.asset("a.tar.xz") == (
        "https://github.com/someone/course/releases/download/v2.5/a.tar.xz"
    )
    assert repository.colab_link("06_grpo") == (
        "https://colab.research.google.com/github/someone/course/blob/v2.5/notebooks/06_grpo.ipynb"
    )


def test_a_missing_address_is_said_in_one_line(stated, tmp_path):
    stated("[project]", 'version = "2.5"')
    with pytest.raises(CourseError, match="names no Repository"):
        repository.address()
    (tmp_path / "pyproject.toml").unlink()
    with pytest.raises(CourseError, match="use a clone"):
        repository.address()


def test_nothing_but_pyproject_and_what_is_made_from_it_states_the_address():
    """Notebooks have it in cells that tools.colab writes; tests/test_colab.py compares those."""
    name = repository.address().removeprefix(repository.GITHUB)
    if not (PROJECT_ROOT / ".git").exists():
        pytest.skip("no clone: git cannot tell which files are the course's")
    command = ["git", "grep", "-l", "-F", name, "--", ":!notebooks"]
    found = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert found.stdout.split() == ["pyproject.toml"]
