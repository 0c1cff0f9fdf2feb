"""Estimates: by hand for one stage, and what is said of what does not fit."""

import pytest

from trlm_utils.runner import command, estimate, recipes


@pytest.fixture(scope="module")
def trlm():
    return recipes.load_plan("trlm", "full")


def test_tokens_and_hours_of_a_stage_by_hand(trlm):
    costs = {cost.stage: cost for cost in estimate.of_plan(trlm, estimate.GPUS["A100"])}
    stage = costs["02_sft_stage1"]
    # 58,000 rows, 3 epochs, half of 4,096 tokens each
    assert stage.trained == pytest.approx(58_000 * 3 * 4096 * 0.5)
    # 8 FLOP a parameter and token, activations being computed again; 30 % of 312 TFLOP/s
    seconds = 8 * 134_515_008 * stage.trained / (312e12 * 0.3)
    assert stage.hours == pytest.approx(seconds / 3600)
    assert stage.dollars == pytest.approx(stage.hours * 1.80)
    # weights, gradients and two states in fp32; 32 rows of 4,096 x 576 x 30 x 2 bytes
    assert stage.memory == pytest.approx((16 * 134_515_008 + 32 * 4096 * 576 * 30 * 2) / 1e9)


def test_adapters_are_counted_as_peft_counts_them():
    name = "DeepSeek-R1-Distill-Qwen-1.5B"
    assert estimate._trainable(name, 0, 32) == 36_929_536  # what peft prints for rank 32
    assert estimate._trainable(name, 7, 0) == 7


def test_what_is_written_to_benchmarks_by_hand():
    plan = recipes.load_plan("tina", "full", overrides=["07_evaluation.TASKS=[math_500, minerva]"])
    cost = estimate.of_plan(plan, estimate.GPUS["L40S"])[-1]
    models = len(plan.stages[-1].parameters["EVALUATE"])
    # 772 questions, 4 replies each, half of 8,192 tokens
    assert cost.sampled == pytest.approx(models * 772 * 4 * 8192 * 0.5)
    # 64 at once read 2 bytes a parameter at half of 864 GB/s for every token
    seconds = cost.sampled / 64 * 2 * 1_777_088_000 / (864e9 * 0.5)
    assert cost.hours == pytest.approx(seconds / 3600)


def test_the_text_names_downloads_and_what_does_not_fit(trlm):
    text = estimate.text(trlm, "A100")
    assert "HuggingFaceTB/SmolLM2-135M-Instruct: 0.3 GB" in text
    assert "33500 rows, streamed, for sft_stage1" in text
    assert "does not fit" not in text
    big = recipes.load_plan("qwen-rl", "full", overrides=["sft_first.BATCH_SIZE=64"])
    assert "does not fit" in estimate.text(big, "T4")


def test_show_prints_the_estimate_and_refuses_an_unknown_card(capsys):
    assert command.main(["show", "tunix", "--scale", "full", "--gpu", "L40S"]) == 0
    assert "One L40S (48 GB, $1.00 an hour), estimated" in capsys.readouterr().out
    assert command.main(["show", "tunix", "--scale", "full", "--gpu", "P100"]) == 2
    assert "no card 'P100'; known: T4" in capsys.readouterr().err
