"""What each notebook says it takes is what was recorded, and what the estimate says."""

import nbformat
import pytest

from tools import costs, publish
from trlm_utils.files import CourseError
from trlm_utils.runner import estimate, times

ENTRY = {"stages": {"02_sft_stage1": {"seconds": 90.0, "memory_mb": 1260}}}


def told(notebook):
    """The line in a committed notebook; empty if it has none yet."""
    cells = nbformat.read(publish.NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells
    texts = [c.source for c in cells if c.cell_type == "markdown" and "**You need**" in c.source]
    return next((x for x in texts[0].split("\n") if x.startswith(costs.START)), "")


@pytest.mark.parametrize("notebook", sorted(p.stem for p in publish.NOTEBOOKS.glob("*.ipynb")))
def test_the_line_of_a_notebook_is_the_recorded_one(notebook):
    assert told(notebook) == costs.line(notebook), "run `python -m tools.costs`"


def test_time_and_memory_are_the_recorded_ones(monkeypatch):
    monkeypatch.setattr(times, "load", lambda: {"smoke": {"stages": {}}, "nano": ENTRY})
    assert "Two shared CPU cores: 1.5 minutes, 1.3 GB (recorded with `nano`)." in costs.line(
        "02_sft_stage1"
    )


def test_a_record_without_memory_says_nothing_of_it(monkeypatch):
    short = {"stages": {"02_sft_stage1": {"seconds": 90.0}}}
    monkeypatch.setattr(times, "load", lambda: {"nano": short})
    assert "1.5 minutes (recorded with `nano`)" in costs.line("02_sft_stage1")


def test_a_notebook_that_was_never_recorded_is_refused(monkeypatch):
    monkeypatch.setattr(times, "load", lambda: {"nano": ENTRY})
    with pytest.raises(CourseError, match="no time recorded for 03_sft_stage2"):
        costs.line("03_sft_stage2")


def test_the_estimate_is_that_of_the_command_it_names():
    from trlm_utils.runner import recipes

    plan = recipes.load_plan("trlm", "full", 0, [], "")
    for card in costs.CARDS:
        (row,) = [
            x.split()
            for x in estimate.text(plan, card).splitlines()
            if x.strip().startswith("02_sft_stage1")
        ]
        hours, memory = row[-2], row[-4]
        assert f"one {card} {hours} hours, {memory} GB" in costs.estimated("02_sft_stage1")


def test_a_tiny_model_waits_for_its_kernels():
    """Stage 2: 1,750 passes, forward and backward, and 480 decoding steps of two layers."""
    from trlm_utils.runner import recipes

    seconds = estimate.LAUNCH * 2 * (3 * 1750 + 480)
    found = estimate.of_plan(recipes.load_plan("nano"), estimate.GPUS["A100"])
    (cost,) = [cost for cost in found if cost.stage == "03_sft_stage2"]
    assert cost.hours * 3600 == pytest.approx(seconds, rel=0.05)
    assert f"one A100 {seconds:.0f} seconds, 0.1 GB" in costs.estimated_tiny(cost.stage)


def test_a_stage_of_no_time_says_so():
    assert "less than a second of sampling on a T4" in costs.estimated_tiny("05_grpo_rewards")
    assert costs.estimated_tiny("10_ablations") == ""
    assert costs.estimated("00_start_here") == "" and costs.estimated("05_grpo_rewards") == ""


def test_the_line_is_put_in_once_and_then_renewed():
    def cells(text):
        return [{"cell_type": "markdown", "source": text}]

    fresh = cells("# T\n\nWhy.\n\n**You need** nothing.")
    costs.place_line(fresh, f"{costs.START} A.")
    assert fresh == cells(f"# T\n\nWhy.\n\n**You need** nothing.\n\n{costs.START} A.")
    costs.place_line(fresh, f"{costs.START} B.")
    assert fresh == cells(f"# T\n\nWhy.\n\n**You need** nothing.\n\n{costs.START} B.")
    with pytest.raises(CourseError):
        costs.place_line(cells("other"), costs.START)
