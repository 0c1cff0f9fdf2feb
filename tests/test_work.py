"""Work of a stage: counted by hand, and against what the committed runs of `nano` logged."""

import csv

import pytest

from trlm_utils.curation import dirt
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


def test_curation_trains_three_models_on_the_dirty_mixture(nano):
    """2,000 rows each in batches of 16; 200 questions and 20 leaked ones, five times.

    With 512 at once 800 completions are two batches, the other three draws one each.
    """
    done = nano["01_data_curation"]
    assert (done.rows, done.passes) == (3 * 2000, 3 * 2000 / 16)
    assert done.sampled == 3 * 220 * (1 + 4) * 64 / 2
    assert done.decoding == 3 * (1 + 2 + 1 + 1) * 64
    for setting in ("DIRT_ROWS=0", "MODEL_FROM=''"):
        without = counted("nano", overrides=[f"01_data_curation.{setting}"])
        assert "01_data_curation" not in without


def test_each_kind_of_dirt_alone_has_half_the_rows():
    """Five seeds, three arms of the mixture; the clean one and seven kinds at half its rows."""
    done = counted("curation")["curation"]
    assert done.rows == 5 * 2000 * (3 + (len(dirt.SHARES) + 1) / 2)


def test_two_judges_by_hand():
    """800 pairs of two replies and 3,000 solutions, twice, 32 a step."""
    done = counted("algorithms")["11_reward_models"]
    assert done.rows == 2 * (1600 + 3000) and done.passes == 2 * 3800 / 32
    assert done.sampled == 0


def test_the_live_section_trains_twice():
    """30 steps of 128 completions each; 64 prompts before the first and after every fifth."""
    done = counted("deep_dives")["13_reward_lab"]
    assert done.passes == 60
    assert done.sampled == (60 * 128 + 14 * 64) * 65
    assert "13_reward_lab" not in counted("deep_dives", overrides=["13_reward_lab.LIVE_STEPS=0"])


def test_signals_draw_and_read_what_they_draw():
    """640 prompts, 8 completions, four rounds; 100 held-out prompts five times."""
    found = counted("algorithms")
    done = found["14_signals"]
    assert done.passes == 640 * 8 / 32 and done.read == 0
    assert done.sampled == (640 * 8 + 5 * 100) * 65
    assert found["sig-teacher"].read == found["sig-teacher"].padded  # the teacher reads them


def test_notebooks_that_only_read_are_not_counted():
    assert set(counted("deep_dives")) == {"13_reward_lab"}
