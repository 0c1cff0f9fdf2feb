"""Work of a stage: counted by hand, and against what the committed runs of `nano` logged."""

import csv

import pytest

from trlm_utils.files import PROJECT_ROOT
from trlm_utils.runner import recipes, work


def counted(recipe, scale="nano", together=512, packs=False, overrides=()):
    plan = recipes.load_plan(recipe, scale, overrides=overrides)
    return {done.stage: done for done in work.of_plan(plan, lambda stage: together, packs)}


LOGS = {
    "00_start_here": "base",
    "02_sft_stage1": "sft_stage1",
    "03_sft_stage2": "sft_stage2",
    "04_dpo": "dpo",
    "06_grpo": "grpo",
}


@pytest.fixture(scope="module")
def nano():
    return counted("nano", packs=True)


@pytest.mark.parametrize("stage", LOGS)
def test_tokens_trained_are_those_that_nano_logged(nano, stage):
    """Within a factor of two; most of what is off is duplicates that curation drops."""
    with (PROJECT_ROOT / "figures" / f"{LOGS[stage]}_training.csv").open() as file:
        logged = [float(row["num_tokens"]) for row in csv.DictReader(file) if row["num_tokens"]]
    assert 0.5 < nano[stage].trained / logged[-1] < 2


def test_completions_are_as_long_as_nano_logged(nano):
    with (PROJECT_ROOT / "figures" / "grpo_training.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["completions/mean_length"]]
    mean = sum(float(row["completions/mean_length"]) for row in rows) / len(rows)
    longest = sum(float(row["completions/max_length"]) for row in rows) / len(rows)
    tokens, steps = work.drawn(256, 130, 256)
    assert 0.5 < tokens / (256 * mean) < 2
    assert 0.5 < steps / longest < 2


def test_what_is_drawn_at_once_decides_on_the_steps():
    assert work.drawn(32, 3584, 512) == (32 * 1792, 3584)  # one batch
    assert work.drawn(32, 3584, 10) == (32 * 1792, 4 * 3584)  # 10, 10, 10 and 2


def test_a_group_stage_by_hand():
    """Tina, rank 32: 180 steps of 8 prompts x 4 completions of at most 3,584 tokens."""
    done = counted("tina", "full")["rank_32"]
    prompt = 256  # half of the 512 tokens that a prompt may have
    assert done.trained == pytest.approx(180 * 32 * (prompt + 1792))
    assert done.padded == pytest.approx(180 * 32 * (512 + 3584))
    assert done.passes == 180 * 32 / 4
    assert done.read == done.padded  # the reference of the KL penalty reads once
    # looks at 100 prompts before step 1 and after 50, 100, 150, and a probe of 16 x 4
    assert done.decoding == (180 + 4 + 1) * 3584
    assert done.sampled == pytest.approx((180 * 32 + 4 * 100 + 64) * 1792)


def test_rollouts_used_twice_are_drawn_half_as_often():
    found = counted("ablations")
    once, twice = found["grpo-reference"], found["loss-dr_grpo"]
    # both draw 30 x 128; the second takes 60 steps, and the policy of before is read
    assert twice.trained == pytest.approx(2 * once.trained)
    assert twice.decoding == once.decoding
    assert (once.read, twice.read) == (0, pytest.approx(once.padded))


def test_whole_epochs_of_rollouts():
    """1,920 prompts, 32 a step, three times."""
    found = counted("nano", overrides=["06_grpo.MAX_STEPS=-1"])
    assert found["06_grpo"].passes == 3 * 1920 / 32


def test_ppo_trains_a_critic_beside_the_policy():
    found = counted("algorithms")
    ppo, rloo = found["12_algorithms"], found["algo-rloo"]
    assert ppo.trained == pytest.approx(4 * rloo.trained)  # 2 passes, 2 models
    assert ppo.decoding == rloo.decoding


def test_fine_tuning_by_hand():
    done = counted("trlm", "full")["02_sft_stage1"]
    assert done.trained == pytest.approx(58_000 * 3 * 2048)  # half of 4,096 tokens each
    assert done.padded == pytest.approx(58_000 * 3 * 4096)  # a batch is as wide as its longest
    assert done.rows == 58_000


def test_packed_rows_have_no_padding(nano):
    assert nano["02_sft_stage1"].padded == nano["02_sft_stage1"].trained
    assert nano["04_dpo"].padded > nano["04_dpo"].trained  # DPO's are padded everywhere


def test_one_row_a_pass_has_no_padding():
    done = counted("tiny-r1", "full", overrides=[f"01_data_curation.DATA_DIR={FILES}"])
    assert done["fine_tuning"].padded == done["fine_tuning"].trained


FILES = PROJECT_ROOT / "tests" / "fixtures" / "files"


def test_evaluation_by_hand(nano):
    """5 models answer 6 x 400 questions: in chat once and 8 times, in plain form once and twice;
    3 of them answer 3 x 100 questions 32 times."""
    asked = 5 * 2400
    assert nano["07_evaluation"].sampled == (asked * (1 + 8 + 1 + 2) + 3 * 300 * 32) * 80
    draws = (asked, asked * 8, asked * 3, 3 * 300 * 32)
    assert nano["07_evaluation"].decoding == sum(-(-n // 256) for n in draws) * 160


def test_stages_without_a_model_are_not_counted(nano):
    assert "01_data_curation" not in nano
