"""The time told at the start: recorded seconds, scaled by what two machines do."""

import json
import time
from dataclasses import replace

import pytest

from trlm_utils.files import CourseError, write_json
from trlm_utils.runner import probe, recipe_file, recipes, times
from trlm_utils.runner.digest import inputs_digest
from trlm_utils.runner.probe import Speed

ENTRY = {
    "machine": "2 cores",
    "probe": {"training": 1000.0, "decoding": 400.0, "startup": 5.0},
    "stages": {
        "00_start_here": {"seconds": 65.0, "startup": 5.0, "decoding": 0.0, "settings": ""},
        "07_evaluation": {"seconds": 95.0, "startup": 5.0, "decoding": 80.0, "settings": ""},
    },
}


@pytest.fixture
def plan(tmp_path):
    return recipes.load_plan("smoke", "nano", 0, [], str(tmp_path / "smoke"))


def of(plan, *names):
    return [stage for stage in plan.stages if stage.stage in names]


def test_each_part_of_a_stage_is_scaled_by_its_own_figure(plan):
    """Half as fast in training, four times in decoding, start-up twice as long:
    60 s x 2 + 5 s x 2, and 10 s x 2 + 80 s / 4 + 5 s x 2."""
    here = Speed(training=500.0, decoding=1600.0, startup=10.0)
    stages = of(plan, *ENTRY["stages"])
    assert times.predict(ENTRY, stages[:1], here) == pytest.approx(130.0)
    assert times.predict(ENTRY, stages, here) == pytest.approx(130.0 + 50.0)


def test_the_same_machine_takes_what_was_recorded(plan):
    here = Speed(**ENTRY["probe"])
    assert times.predict(ENTRY, of(plan, *ENTRY["stages"]), here) == pytest.approx(160.0)


def test_a_recipe_without_a_record_says_so(plan, tmp_path):
    (tmp_path / "recorded.yaml").write_text("nano: {}\n")
    line, speed = times.announce(plan, plan.stages, tmp_path / "p", tmp_path / "recorded.yaml")
    assert (line, speed) == ("not recorded yet: time unknown", None)


def test_the_line_names_both_machines(plan, tmp_path):
    """A probe of this half hour is taken as it is: nothing is measured here."""
    sizes = {name: plan.stages[0].parameters[name] for name in probe.SIZES}
    figures = {"training": 2000, "decoding": 800, "startup": 2.5}
    write_json(tmp_path / "p", figures | {"sizes": sizes, "at": time.time()})
    (tmp_path / "recorded.yaml").write_text(json.dumps({"smoke": ENTRY}))
    chosen = of(plan, *ENTRY["stages"])
    line, speed = times.announce(plan, chosen, tmp_path / "p", tmp_path / "recorded.yaml")
    assert speed == Speed(2000.0, 800.0, 2.5)
    assert line.startswith("about 1.3 minutes on this machine (probe: 2,000 training and 800")
    assert "recorded on 2 cores: 1,000 training and 400 decoding tokens/s, start-up 5 s" in line
    assert line.endswith("settings differ from the recorded ones, so it may be far off")


def test_other_settings_than_the_recorded_are_noticed(tmp_path):
    same, other = (
        recipes.load_plan("smoke", "nano", seed, changed, str(tmp_path / str(seed)))
        for seed, changed in ((0, []), (1, ["06_grpo.MAX_STEPS=7"]))
    )
    differing = [
        a.stage
        for a, b in zip(same.stages, other.stages, strict=True)
        if times.settings(a) != times.settings(b)
    ]
    assert differing == ["06_grpo"]  # neither the seed nor the run's folder counts


def finished(plan, folder, **more):
    for stage in plan.stages:
        digest = inputs_digest(stage, folder)
        content = {"status": "finished", "inputs": digest, "wall_seconds": 12.5}
        content |= {"startup_seconds": 5.0, "decoding_seconds": 2.0, "outputs": "x"}
        content |= {"peak_rss_mb": 700.4} | more
        write_json(folder / stage.stage / "manifest.json", content)


def test_what_reads_a_stage_that_runs_again_runs_again(plan, tmp_path):
    folder = tmp_path / "smoke"
    finished(plan, folder)
    assert times.to_run(plan.stages, folder, force=False) == []
    assert times.to_run(plan.stages, folder, force=True) == list(plan.stages)
    manifest = folder / "04_dpo" / "manifest.json"
    write_json(manifest, json.loads(manifest.read_text()) | {"status": "running"})
    names = [stage.stage for stage in times.to_run(plan.stages, folder, force=False)]
    assert names == ["04_dpo", "05_grpo_rewards", "06_grpo", "07_evaluation", "08_use_it"]


def test_a_run_is_recorded_beside_the_others_and_predicts_itself(plan, tmp_path):
    folder, place = tmp_path / "smoke", tmp_path / "recorded.yaml"
    place.write_text(json.dumps({"other": ENTRY}))
    finished(plan, folder, probe=ENTRY["probe"])
    line = times.record(plan, folder, tmp_path / "p", place)
    assert line == "smoke: 1.9 minutes recorded"  # 9 x 12.5 s
    found = times.load(place)
    assert found["other"] == ENTRY
    assert {stage["memory_mb"] for stage in found["smoke"]["stages"].values()} == {700}
    here = Speed(**found["smoke"]["probe"])
    assert times.predict(found["smoke"], plan.stages, here) == pytest.approx(112.5)


def test_what_another_recipe_recorded_stays_as_this_machine_would_take(plan, tmp_path):
    """Its machine trains and decodes half as fast and starts as quickly: 10 s + 20 s + 5 s."""
    folder, place = tmp_path / "smoke", tmp_path / "recorded.yaml"
    slower = {"training": 500.0, "decoding": 200.0, "startup": 5.0}
    more = {"seconds": 65.0, "startup": 5.0, "decoding": 40.0, "settings": "abc"}
    entry = {"machine": "1 core", "probe": slower, "stages": {"arm": more}}
    place.write_text(json.dumps({"smoke": entry}))
    finished(plan, folder, probe=ENTRY["probe"])
    times.record(plan, folder, tmp_path / "p", place)
    found = times.load(place)["smoke"]
    assert len(found["stages"]) == len(plan.stages) + 1
    assert found["stages"]["arm"] == more | {"seconds": 35.0, "decoding": 20.0}


def test_an_unfinished_run_is_not_recorded(plan, tmp_path):
    with pytest.raises(CourseError, match="00_start_here is not finished"):
        times.record(plan, tmp_path / "smoke", tmp_path / "p", tmp_path / "recorded.yaml")


def test_what_a_continued_recipe_did_not_run_is_not_recorded(tmp_path):
    arms, place = recipes.load_plan("controls"), tmp_path / "recorded.yaml"
    place.write_text("{}")
    stages = tuple(stage for stage in arms.stages if stage.stage not in arms.spare)
    finished(replace(arms, stages=stages), tmp_path, probe=ENTRY["probe"])
    times.record(arms, tmp_path, tmp_path / "p", place)
    assert list(times.load(place)["nano"]["stages"]) == [stage.stage for stage in stages]


def test_the_committed_records_are_of_recipes_that_exist():
    continued = {}  # recipe -> stages of those that continue it
    for name in recipe_file.list_recipes():
        scales = recipe_file.read(recipe_file.find_recipe(name)).scales
        if "nano" in scales and name != "gsm8k":  # which needs a folder
            plan = recipes.load_plan(name, "nano", 0, [], "runs/x")
            continued.setdefault(plan.recipe, set()).update(s.stage for s in plan.stages)
    for name, entry in times.load().items():
        assert probe.known(entry["probe"]), name
        if name not in recipe_file.list_recipes():  # smollm2-cpu: its plan wants files to exist
            recipe, scale = name.rsplit("-", 1)
            written = recipe_file.read(recipe_file.find_recipe(recipe)).scales[scale].stages
            assert list(entry["stages"]) == [stage.stage for stage in written], name
            continue
        plan = recipes.load_plan(name, "nano", 0, [], "runs/x")
        own = [stage.stage for stage in plan.stages]
        assert list(entry["stages"])[: len(own)] == own, name
        assert set(entry["stages"]) <= continued[name], name


def test_the_probe_measures_training_and_decoding(monkeypatch):
    monkeypatch.setattr(probe, "SECONDS", 0.05)
    assert min(probe.measure(16, 1, 512)) > 0


def test_a_probe_that_fails_costs_only_the_line(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(probe.sys, "executable", "/nowhere/python")
    assert probe.this_machine(plan.stages[0].parameters, tmp_path / "p") is None
