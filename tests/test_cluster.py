"""Estimates for several cards, and the page that shows them."""

import pytest

from tools import cards as page
from trlm_utils.architectures import architecture, parameters_of
from trlm_utils.runner import cluster, command, estimate, recipes
from trlm_utils.runner.cluster import LINK, Cards

H100 = estimate.GPUS["H100"]


def shares(ranks, sharded=False, model="Qwen2.5-7B-Instruct", scale="full"):
    values = [f"00_start_here.ARCHITECTURE={model}", "06_grpo.PROMPTS_PER_STEP=64"]
    if scale == "lora":
        values.append("06_grpo.LORA_RANK=32")
    plan = recipes.load_plan("qwen-gsm8k", scale, 0, values, "runs/x")
    return {share.stage: share for share in cluster.of_plan(plan, Cards(H100, ranks, sharded))}


def test_the_seven_billion_parameters_are_those_published():
    assert parameters_of(architecture("Qwen2.5-7B-Instruct")) == 7_615_616_512


def test_ranks_divide_training_but_not_the_steps_of_a_batch():
    model = "Qwen2.5-0.5B-Instruct"
    one, eight = (shares(n, model=model)["06_grpo"] for n in (1, 8))
    assert eight.training == pytest.approx(one.training / 8)
    # 512 completions are one batch on one card, 64 on each of eight: as many steps
    assert 0.8 * one.sampling < eight.sampling < one.sampling


def test_one_card_sends_nothing_and_more_send_the_rings_bytes():
    assert shares(1)["06_grpo"].gradients == 0
    sent = 100 * 2 * (7 / 8) * 4 * 7_615_616_512  # 100 steps, in fp32
    assert shares(8)["06_grpo"].gradients == pytest.approx(sent / LINK / 3600)


def test_adapters_send_only_their_gradients():
    assert shares(8, scale="lora")["06_grpo"].gradients < shares(8)["06_grpo"].gradients / 50


def test_sharding_leaves_each_rank_its_part_and_the_copy_that_draws():
    whole, part = shares(8)["06_grpo"], shares(8, sharded=True)["06_grpo"]
    assert whole.memory > 80 > part.memory
    held = (16 * 7_615_616_512 / 8 + 2 * 7_615_616_512) / 1e9
    assert held < part.memory < held + 10


def test_evaluation_stays_on_one_card():
    assert shares(8)["07_evaluation"].sampling == shares(1)["07_evaluation"].sampling


def test_the_table_names_what_does_not_fit(capsys):
    words = ["show", "qwen-gsm8k", "--scale", "full", "--gpu", "H100", "--ranks", "2"]
    words += ["--set", "00_start_here.ARCHITECTURE=Qwen2.5-7B-Instruct"]
    assert command.main(words) == 0
    said = capsys.readouterr().out
    assert "2 x H100 (80 GB), each with the whole model, estimated" in said
    assert "; does not fit" in said.split("2 x H100")[1]


def test_the_pages_tables_are_what_the_estimate_says():
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.page(text) == text
