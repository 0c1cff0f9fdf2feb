"""The release archive: what goes in, equal bytes, checksums, what a run makes of it."""

import json
import lzma
import shutil
import tarfile

import pytest

from trlm_utils import release
from trlm_utils.files import CourseError
from trlm_utils.runner import command, digest, pipeline, recipes, released
from trlm_utils.stage import outputs_digest


def stage(folder, status="finished", **files):
    """A stage's folder with these files (``__`` stands for a slash, ``_dot_`` for a dot)."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"status": status, "outputs": outputs_digest(folder)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder of runs with a run of two finished stages, an unfinished one and a second seed."""
    monkeypatch.setenv("TRLM_RUNS_DIR", str(tmp_path / "runs"))
    run = tmp_path / "runs" / "nano"
    files = {"model__weights": "w", "checkpoints__c": "c", "notebook_dot_ipynb": "{}"}
    figures = {"figures__a_dot_csv": "1", "figures__a_dot_png": "p", "log_history_dot_csv": "l"}
    stage(run / "00_start_here", **files, **figures)
    stage(run / "01_data_curation", data__eval_dot_jsonl="{}")
    stage(run / "02_sft_stage1", "running", model__weights="half")
    stage(run / "seed-1" / "00_start_here", model__weights="w1", metrics_dot_json="{}")
    (run / "report.json").write_text("{}")
    return tmp_path / "runs"


def test_models_data_and_logs_go_in_and_nothing_else(runs):
    assert list(release.contents(runs / "nano")) == [
        "nano/00_start_here/figures/a.csv",
        "nano/00_start_here/log_history.csv",
        "nano/00_start_here/manifest.json",
        "nano/00_start_here/model/weights",
        "nano/01_data_curation/data/eval.jsonl",
        "nano/01_data_curation/manifest.json",
        "nano/logs/seed-1/00_start_here/manifest.json",
        "nano/logs/seed-1/00_start_here/metrics.json",
        "nano/report.json",
    ]


def test_equal_runs_give_equal_bytes(runs, tmp_path):
    first = release.build(runs / "nano", tmp_path / "a")
    shutil.copytree(runs / "nano", tmp_path / "copy")  # other times, another order on disk
    for path in sorted((tmp_path / "copy").rglob("*"), reverse=True):
        path.touch()
    second = release.build(tmp_path / "copy", tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a" / release.SUMS).read_text().split()[1] == first.name


def test_what_was_packed_comes_back_and_what_is_there_stays(runs, tmp_path):
    archive = release.build(runs / "nano", tmp_path)
    shutil.rmtree(runs / "nano" / "00_start_here")
    (runs / "nano" / "01_data_curation" / "data" / "eval.jsonl").write_text("mine")
    placed, kept = release.unpack(str(archive))
    assert placed == ["00_start_here", "logs"] and kept == ["01_data_curation", "report.json"]
    assert (runs / "nano/00_start_here/model/weights").read_text() == "w"
    assert (runs / "nano/01_data_curation/data/eval.jsonl").read_text() == "mine"
    assert not list(runs.glob(".release-*"))


def test_only_earlier_stages_are_put_where_a_later_one_is_to_run(runs, tmp_path):
    archive = release.build(runs / "nano", tmp_path)
    shutil.rmtree(runs / "nano")
    assert release.unpack(str(archive), before="01_data_curation") == (["00_start_here"], [])
    assert [path.name for path in (runs / "nano").iterdir()] == ["00_start_here"]


def repacked(archive, change):
    """The archive with its tar file's bytes changed by a function."""
    archive.write_bytes(lzma.compress(change(lzma.decompress(archive.read_bytes()))))
    return archive


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        lambda path: path.write_bytes(b"not an archive"),
        lambda path: repacked(
            path, lambda tar: tar.replace(b"l" + 511 * b"\0", b"x" + 511 * b"\0")
        ),
        lambda path: repacked(path, lambda tar: tar.replace(b"SHA256SUMS", b"OTHERNAMES")),
    ],
    ids=["cut off", "another file", "one byte", "no checksums"],
)
def test_a_damaged_archive_is_refused_and_leaves_nothing(runs, tmp_path, damage):
    archive = release.build(runs / "nano", tmp_path)
    shutil.rmtree(runs / "nano")
    damage(archive)
    with pytest.raises(CourseError, match="damaged: fetch it again"):
        release.unpack(str(archive))
    assert not list((runs / "nano").iterdir()) and not list(runs.glob(".release-*"))


def test_a_name_that_leaves_the_folder_is_refused(runs, tmp_path):
    with tarfile.open(tmp_path / "bad.tar.xz", "w:xz") as tar:
        tar.add(runs / "nano" / "report.json", "../outside.json")
    with pytest.raises(CourseError, match="damaged"):
        release.unpack(str(tmp_path / "bad.tar.xz"))
    assert not (runs / "outside.json").exists()


def test_paths_of_this_machine_do_not_go_into_a_release(runs, tmp_path):
    (runs / "nano/00_start_here/metrics.json").write_text(str(release.PROJECT_ROOT / "x"))
    with pytest.raises(CourseError, match="00_start_here/metrics.json names a path"):
        release.build(runs / "nano", tmp_path)


def test_what_cannot_be_had_is_said_in_one_line(runs, tmp_path, capsys):
    assert command.main(["fetch", str(tmp_path / "none.tar.xz")]) == 2
    assert "`make release` builds one" in capsys.readouterr().err
    missing = (tmp_path / "none.tar.xz").as_uri()
    assert command.main(["fetch", missing]) == 2
    assert f"error: no release archive at {missing}" in capsys.readouterr().err
    with pytest.raises(CourseError, match="no finished stage"):
        release.build(tmp_path / "empty", tmp_path)


def test_a_fetched_stage_counts_as_finished_until_its_inputs_change(runs, tmp_path, monkeypatch):
    folder = runs / "nano"
    plan = recipes.load_plan("nano", "nano", 0, [], str(folder))
    stages = {one.stage: one for one in plan.stages}
    for name in ("00_start_here", "01_data_curation"):
        found = digest.dependencies(stages[name], folder)
        place = folder / name / "manifest.json"
        begun = {"inputs": digest.digest_of(found), "depends_on": found}
        place.write_text(json.dumps(json.loads(place.read_text()) | begun))
    archive = release.build(folder, tmp_path)
    shutil.rmtree(folder)
    text = released.fetch(str(archive))
    assert "00_start_here      finished" in text and "runs again" not in text
    for name in ("00_start_here", "01_data_curation"):
        here = digest.digest_of(digest.dependencies(stages[name], folder))
        assert digest.is_finished(folder / name, here)
    shutil.rmtree(folder)
    known = digest.machine.version_of
    newer = {"torch": "99.0"}
    monkeypatch.setattr(digest.machine, "version_of", lambda name: newer.get(name) or known(name))
    text = released.fetch(str(archive))
    assert "00_start_here      changed since the release: package torch" in text
    assert "`make course` runs again from 00_start_here on" in text
    chosen = pipeline.select_stages(plan, folder, start="01_data_curation")
    assert [one.stage for one in chosen][:1] == ["01_data_curation"]
