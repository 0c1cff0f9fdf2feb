"""Estimates: by hand, against what TRL holds, and against what `nano` really took."""

import csv
import json
import re

import pytest

from trlm_utils.files import PROJECT_ROOT
from trlm_utils.runner import command, estimate, recipe_file, recipes, times, work

FILES = PROJECT_ROOT / "tests" / "fixtures" / "files"
GIVEN = {"tiny-r1": [f"01_data_curation.DATA_DIR={FILES}"]}


@pytest.fixture(scope="module")
def trlm():
    return recipes.load_plan("trlm", "full")


@pytest.fixture(scope="module")
def tina():
    return recipes.load_plan("tina", "full")


def costs(plan, card):
    return {cost.stage: cost for cost in estimate.of_plan(plan, estimate.GPUS[card])}


def test_hours_and_memory_of_fine_tuning_by_hand(trlm):
    cost = costs(trlm, "A100")["02_sft_stage1"]
    # 8 FLOP a parameter and token of 58,000 rows, 3 epochs, padded to 4,096; 30 % of 312 TFLOP/s
    training = 8 * 134_515_008 * 58_000 * 3 * 4096 / (312e12 * 0.3)
    # 200 questions at once for 40 steps, each 1 ms for each of 30 layers; and their KV cache
    cache = 2 * 4 * 30 * 3 * 64
    drawing = 40 * 30e-3 + 200 * 20 * cache * (512 + 100) * 0.5 / (2039e9 * 0.5)
    assert cost.hours == pytest.approx((training + drawing) / 3600)
    assert cost.dollars == pytest.approx(cost.hours * 1.80)
    tokens = 32 * 4096
    held = 16 * 134_515_008  # weights, gradients and two states in fp32
    held += tokens * 576 * (2 * 30 + 34)  # activations, computed again layer by layer
    held += 2 * 4096 * 32768 + 4 * tokens * 576 + 4 * 49152 * 576  # what is held of logits
    assert cost.memory == pytest.approx(held / 1e9)


def test_sampling_takes_its_steps_one_after_another(tina):
    """A step for 32 completions passes 28 layers, 1 ms each, and then comes the next."""
    cost = costs(tina, "L40S")["rank_32"]
    assert cost.work.decoding == (180 + 4 + 1) * 3584  # four looks and a probe
    drawing = cost.work.decoding * 28e-3
    size, flops = 1_777_088_000, 362e12 * 0.3
    training = 180 * 32 * 4096 * (8 + 2) * size / flops  # and 2 FLOP for the reference
    cache = 2 * 4 * 28 * 2 * 128
    reading = cost.work.sampled * cache * (512 + 3584) * 0.5 / (864e9 * 0.5)
    assert cost.hours * 3600 == pytest.approx(drawing + training + reading)


def test_less_memory_draws_fewer_at_once(tina):
    model = estimate.model_of("DeepSeek-R1-Distill-Qwen-1.5B")
    stage = next(s for s in tina.stages if s.stage == "length_8960")
    card = estimate.GPUS["L40S"]
    assert estimate.together(stage, model, card) == int(
        (48e9 - estimate.static_bytes(stage, model))
        / (model.cache * (512 + 8960) + 3 * 4 * 151_936)
    )
    big = estimate.together(stage, model, estimate.GPUS["MI300X"])
    assert 1 < estimate.together(stage, model, card) < big <= 512


def test_adapters_are_counted_as_peft_counts_them():
    assert estimate._parameters("DeepSeek-R1-Distill-Qwen-1.5B", 32) == 36_929_536


def test_a_reference_is_a_copy_unless_adapters_can_be_switched_off(tina, trlm):
    by_stage = {s.stage: s for plan in (tina, trlm) for s in plan.stages}
    model = estimate.Model("DeepSeek-R1-Distill-Qwen-1.5B", 1_777_088_000, 1536, 28, 151_936, 1)
    lora = estimate.static_bytes(by_stage["rank_32"], model)
    assert lora == 4 * 1_777_088_000 + 16 * 36_929_536
    assert estimate.static_bytes(by_stage["04_dpo"], model) == 20 * 1_777_088_000


def test_a_copy_in_half_precision_draws_faster_and_takes_its_room():
    plan = recipes.load_plan("tina", "full", 0, ["rank_32.ROLLOUT_DTYPE=bfloat16"], "runs/x")
    stage = next(s for s in plan.stages if s.stage == "rank_32")
    model = estimate.model_of("DeepSeek-R1-Distill-Qwen-1.5B")
    held = estimate.static_bytes(stage, model)
    assert held == 4 * 1_777_088_000 + 16 * 36_929_536 + 2 * 1_777_088_000
    slow = estimate.Gpu(362e12, 48, 10e9, 1.0)  # so slow a memory that reading weights decides
    speeds = estimate.speeds_on(stage, work.Work("rank_32"), model, slow)
    assert speeds.decoding == 2 * 1_777_088_000 / (10e9 * 0.5)


def test_trl_holds_no_more_of_the_logits_than_is_counted():
    """The largest tensor of a loss is a tile, not tokens x vocabulary."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE
    from trl.trainer import utils

    class Largest(TorchDispatchMode):
        found = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, torch.Tensor):
                    self.found = max(self.found, tensor.numel())
            return out

    assert (TOKEN_CHUNK_SIZE, utils._CHUNKED_LOGPROB_CHUNK_SIZE) == estimate.TILE
    vocabulary, tokens = 40_000, 80
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    model = LlamaForCausalLM(config)
    utils.add_fused_lm_head(model)
    ids = torch.arange(tokens).view(2, 40)
    with Largest() as largest:
        model(input_ids=ids, labels=ids, fused_lm_head=True).loss.backward()
    scored = tokens - 2  # the first token of a row is predicted by nothing
    assert largest.found <= scored * estimate.TILE[1] < scored * vocabulary


def test_what_a_loss_holds_of_logits_by_hand():
    model = estimate.Model("x", 0, 576, 30, 49_152, 0)
    tokens = 32 * 4096
    full = 2 * tokens * 49_152  # in half precision: 12.9 GB, which TRL no longer holds
    held = estimate.logits_bytes({}, tokens, model)
    assert held == 2 * 4096 * 32768 + 4 * tokens * 576 + 4 * 49_152 * 576
    assert full == pytest.approx(12.9e9, rel=0.01) and held < full / 15
    assert estimate.logits_bytes({"METHOD": "ppo"}, tokens, model) == 6 * full


def test_what_is_written_to_benchmarks_by_hand():
    plan = recipes.load_plan("tina", "full", overrides=["07_evaluation.TASKS=[math_500, minerva]"])
    cost = costs(plan, "L40S")["07_evaluation"]
    models = len(plan.stages[-1].parameters["EVALUATE"])
    # 772 questions, 4 replies each, half of 8,192 tokens
    assert cost.work.sampled == pytest.approx(models * 772 * 4 * 8192 * 0.5)
    assert cost.work.decoding == -(-models * 772 * 4 // 64) * 8192


def test_seconds_are_work_times_speeds():
    done = work.Work("x", trained=5, padded=10, read=100, decoding=7, sampled=1000, rows=2)
    speeds = estimate.Speeds(trained=1.0, read=0.1, decoding=3.0, sampled=0.01, row=4.0)
    assert estimate.seconds(done, speeds) == pytest.approx(10 + 10 + 21 + 10 + 8)
    assert estimate.hours(done, speeds) == pytest.approx(59 / 3600)


def test_speeds_of_a_timed_machine_by_hand():
    speeds = estimate.measured(6.0, 3000, (10, 0.03), (110, 0.13), row=0.001)
    assert speeds.trained == pytest.approx(2e-3) and speeds.read == pytest.approx(2e-3 / 3)
    assert speeds.sampled == pytest.approx(1e-3)  # 0.1 s more for 100 more
    assert speeds.decoding == pytest.approx(0.02) and speeds.row == 0.001
    with pytest.raises(ValueError, match="more completions than 10"):
        estimate.measured(6.0, 3000, (10, 0.03), (10, 0.03))


# --- what nano really took ----------------------------------------------------------

LOGS = {
    "02_sft_stage1": "sft_stage1",
    "03_sft_stage2": "sft_stage2",
    "04_dpo": "dpo",
    "06_grpo": "grpo",
}


def last_row(name):
    with (PROJECT_ROOT / "figures" / f"{name}_training.csv").open() as file:
        return list(csv.DictReader(file))[-1]


@pytest.fixture(scope="module")
def timed():
    """nano's work, and that machine's speeds: of stage 00's training and of the benchmark.

    The benchmark drew hundreds of completions at once and says tokens a second, so a
    decoding step is part of its tokens.
    """
    plan = recipes.load_plan("nano")
    found = {done.stage: done for done in work.of_plan(plan, lambda stage: 256, packs=True)}
    trained = found["00_start_here"].padded / float(last_row("base")["train_runtime"])
    text = (PROJECT_ROOT / "figures" / "benchmark.txt").read_text()
    drawn = float(re.search(r"generation.complete +([\d,.]+)", text)[1].replace(",", ""))
    return found, estimate.of_rates(trained, drawn)


@pytest.mark.parametrize("stage", LOGS)
def test_training_takes_what_nano_took_within_a_factor_of_two(timed, stage):
    """Compared with the trainer's own clock, which includes GRPO's rollouts and looks."""
    found, speeds = timed
    done = found[stage]
    # of the other stages the draws lie before and after what the trainer's clock measures
    draws = speeds.sampled * (stage != "06_grpo") * done.sampled
    took = estimate.seconds(done, speeds) - draws
    assert 0.5 < took / float(last_row(LOGS[stage])["train_runtime"]) < 2


@pytest.mark.parametrize("stage", ["04_dpo", "05_grpo_rewards", "06_grpo"])
def test_drawing_takes_what_nano_took_within_a_factor_of_two(stage):
    """The recorded seconds of decoding, at the speed that the machine's probe found."""
    entry = times.load()["nano"]
    done = {d.stage: d for d in work.of_plan(recipes.load_plan("nano"), lambda stage: 256)}[stage]
    took = done.sampled / entry["probe"]["decoding"]
    assert 0.5 < took / entry["stages"][stage]["decoding"] < 2


def test_evaluation_takes_what_nano_took_within_a_factor_of_three():
    """Notebook 07 says how long each model's records took: in two forms, each decoding.

    Models that were evaluated beside training are read from a file, in a second or less: only
    the ones that 07 asked itself say what asking takes. The run whose outputs stand there asked
    all five, on one core, and took 2.3 times as long as the recorded probe says: grading and
    writing the records are in it. While 07 asked fewer models the factor was two.
    """
    entry = times.load()["nano"]
    notebook = json.loads((PROJECT_ROOT / "notebooks" / "07_evaluation.ipynb").read_text())
    printed = "".join(
        text
        for cell in notebook["cells"]
        for output in cell.get("outputs", ())
        for text in output.get("text", ())
    )
    found = re.findall(r"(\w+): \d+ records, (\d+) s", printed)
    asked = {stage: int(seconds) for stage, seconds in found if int(seconds) > 5}
    assert asked
    overrides = ["07_evaluation.PASS_QUESTIONS=0", f"07_evaluation.EVALUATE=[{','.join(asked)}]"]
    plan = recipes.load_plan("nano", overrides=overrides)
    done = {d.stage: d for d in work.of_plan(plan, lambda stage: 256)}["07_evaluation"]
    took = done.sampled / entry["probe"]["decoding"]
    assert 1 / 3 < took / sum(asked.values()) < 3


# --- the text -----------------------------------------------------------------------


def test_the_text_names_downloads_and_what_does_not_fit(trlm):
    text = estimate.text(trlm, "A100")
    assert "HuggingFaceTB/SmolLM2-135M-Instruct: 0.3 GB" in text
    assert "33500 rows, streamed, for sft_stage1" in text
    assert "does not fit" not in text
    big = recipes.load_plan("qwen-rl", "full", overrides=["sft_first.BATCH_SIZE=64"])
    assert "does not fit" in estimate.text(big, "T4")


@pytest.mark.parametrize(
    "recipe",
    [
        name
        for name in recipe_file.list_recipes()
        if "full" in recipe_file.read(recipe_file.find_recipe(name)).scales
    ],
)
def test_every_full_recipe_prints_an_estimate_of_every_stage_that_computes(recipe, capsys):
    given = [word for text in GIVEN.get(recipe, []) for word in ("--set", text)]
    assert command.main(["show", recipe, "--scale", "full", "--gpu", "L40S", *given]) == 0
    printed = capsys.readouterr().out
    assert "One L40S (48 GB, $1.00 an hour), estimated" in printed
    plan = recipes.load_plan(recipe, "full", overrides=GIVEN.get(recipe, []))
    table = printed.split("estimated")[1].split("Assumed")[0]
    for stage in plan.stages:
        if stage.notebook.stem != "01_data_curation":
            assert re.search(rf"^  {re.escape(stage.stage)} .* GB ", table, re.MULTILINE)


def test_an_unknown_card_is_refused(capsys):
    assert command.main(["show", "tunix", "--scale", "full", "--gpu", "P100"]) == 2
    said = capsys.readouterr()
    assert "no card 'P100'; known: T4" in said.err and said.err.count("\n") == 1
    assert said.out == ""  # nothing that the one line would be lost behind
