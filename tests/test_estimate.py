"""Estimates: by hand for one stage, and what is said of what does not fit."""

import json
import math

import pytest

from trlm_utils import architectures
from trlm_utils.runner import command, estimate, recipes, verify


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
    # 64 at once, each batch as long as allowed; a step takes 1 ms for each of 28 layers, or
    # reads 2 bytes a parameter and 64 x 4,096 tokens x 2 x 2 x 28 layers x 2 heads x 128
    read = 2 * 1_777_088_000 + 64 * 4096 * 2 * 2 * 28 * 2 * 128
    seconds = max(28e-3, read / (864e9 * 0.5)) * math.ceil(models * 772 * 4 / 64) * 8192
    assert cost.hours == pytest.approx(seconds / 3600)


def test_sampling_is_counted_in_sequential_steps_at_the_recipes_own_concurrency():
    """Tina draws the completions of a step at once, and waits for the longest of them."""
    plan = recipes.load_plan("tina", "full")
    stage = next(s for s in plan.stages if s.stage == "open_rs2")
    values = stage.parameters
    assert values["PROMPTS_PER_STEP"] * values["GROUP_SIZE"] == 48  # they fit into memory
    costs = {c.stage: c for c in estimate.of_plan(plan, estimate.GPUS["A100"])}
    decoding = values["MAX_STEPS"] * values["MAX_NEW_TOKENS"] * 28e-3  # 28 layers, 1 ms each
    assert costs["open_rs2"].hours > decoding / 3600


def test_completions_that_memory_does_not_hold_are_drawn_one_round_after_another():
    config = architectures.architecture("Qwen2.5-0.5B-Instruct")
    values = {"PROMPTS_PER_STEP": 512, "GROUP_SIZE": 8, "MAX_NEW_TOKENS": 3584}
    small = estimate.prompts_together(config, 494_032_768, values, estimate.GPUS["T4"])
    # (16 GB - 16 bytes a parameter) / 2, over 4,096 tokens of 24 layers x 2 heads x 64 x 2
    # in fp32 and four rows of 151,936 logits
    each = 4096 * 2 * 4 * 24 * 2 * 64 + 16 * 151_936
    assert small == int((16e9 - 16 * 494_032_768) / 2 / each)
    assert estimate.prompts_together(config, 494_032_768, values, estimate.GPUS["MI300X"]) > small


def test_ppo_holds_the_logits_of_a_micro_batch():
    files = f"01_data_curation.DATA_DIR={json.dumps(str(verify.FILES))}"
    plan = recipes.load_plan("tiny-r1", "full", overrides=[files])
    costs = {c.stage: c for c in estimate.of_plan(plan, estimate.GPUS["A100"])}
    batch = next(s for s in plan.stages if s.stage == "ppo").parameters["MICRO_BATCH"]
    assert costs["ppo"].memory > 3 * 4 * batch * (512 + 512) * 49_152 / 1e9


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
