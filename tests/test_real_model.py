"""A real model thinks in plain text: SmolLM2-135M after a dozen steps on NanoWorld.

Needs a model: TRLM_REAL_MODEL=<SmolLM2-135M-Instruct as .gguf, or a folder>. Minutes on
one core; `make real-check` prints what was measured. With TRLM_REAL_RUN=<folder of a finished
run of smollm2, scale cpu> its GRPO is also killed and resumed.
"""

import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from trl import SFTConfig

from trlm_utils import answers, chat, generation, gguf_file, machine, models, nanoworld
from trlm_utils.curation import data_sets
from trlm_utils.files import read_json
from trlm_utils.runner import verify
from trlm_utils.training import configuration, preflight, sft, think_tag

STEPS, BATCH, RATE = 12, 8, 3e-4
PROBLEMS, MAX_NEW_TOKENS = 12, 120

pytestmark = [
    pytest.mark.real_model,
    pytest.mark.skipif(
        not os.environ.get("TRLM_REAL_MODEL"), reason="set TRLM_REAL_MODEL to a model's file"
    ),
]


@pytest.fixture(scope="module")
def loaded():
    torch.manual_seed(0)
    return models.load_base(os.environ["TRLM_REAL_MODEL"])


@pytest.mark.parametrize("contract", chat.CONTRACTS)
def test_prompts_are_prefixes_in_text_and_in_tokens(loaded, contract):
    _, tokenizer = loaded
    problem = nanoworld.make_problem("real", 0)
    reply = chat.in_contract(contract, nanoworld.careful_trace(problem), "The answer is 4.")
    turns = chat.to_messages(problem.question, reply, system="Think first.")
    assert chat.prompt_is_prefix(tokenizer, turns)
    prompt = tokenizer(chat.render(tokenizer, turns[:-1], prompt=True))["input_ids"]
    ids, carries_loss = chat.loss_mask(tokenizer, turns)
    assert ids[: len(prompt)] == prompt
    assert carries_loss.index(1) == len(prompt)


def test_it_survives_gguf(loaded, tmp_path):
    model, tokenizer = loaded
    gguf_file.write(model, tokenizer, tmp_path / "model.gguf")
    again, tokenizer_again = models.load_base(str(tmp_path / "model.gguf"))
    before, after = model.state_dict(), again.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    text = "<|im_start|>user\nAna has 12 apples, and 345.<|im_end|>\n"
    assert tokenizer_again(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_it_learns_the_form_within_a_dozen_steps(loaded, tmp_path):
    model, tokenizer = loaded
    tags = len(tokenizer.tokenize(answers.OPEN)), len(tokenizer.tokenize(answers.CLOSE))
    rows = data_sets.world_thinking(STEPS * BATCH, 0, {"careful": 1.0}, [1, 1, 1, 1])
    conversations = [row["messages"] for row in rows]
    problems = nanoworld.make_problems("real_check", PROBLEMS, seed=0, held_out=True)

    def measure(when):
        asked = [chat.to_prompt(problem.question) for problem in problems]
        prompts = [chat.render(tokenizer, messages, prompt=True) for messages in asked]
        replies = generation.sample(
            model, tokenizer, prompts, max_new_tokens=MAX_NEW_TOKENS, temperature=0.0
        )
        formed = sum(answers.parse(reply.text).well_formed for reply in replies)
        right = sum(
            bool(answers.grade(reply.text, str(problem.answer)))
            for reply, problem in zip(replies, problems, strict=True)
        )
        print(f"{when}: well-formed {formed} of {PROBLEMS}, right {right}", flush=True)
        print(f"  {problems[-1].question}\n  -> {replies[-1].text[:300]}", flush=True)
        return formed

    print(f"\n{model.num_parameters():,} parameters, tags of {tags} tokens")
    before = measure("before")
    precision = machine.choose_precision("cpu")
    config = configuration.make_config(
        SFTConfig,
        **configuration.common_settings(tmp_path, precision, 0) | {"logging_steps": 1},
        assistant_only_loss=True,
        max_length=512,
        per_device_train_batch_size=BATCH,
        max_steps=STEPS,
        learning_rate=RATE,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        weight_decay=0.0,
        adam_beta2=0.98,
        save_strategy="no",
    )
    dataset = Dataset.from_list([{"messages": messages} for messages in conversations])
    trainer = sft.make_trainer(model, config, train_dataset=dataset, processing_class=tokenizer)
    preflight.report(preflight.check_sft(trainer, conversations, precision))
    start = time.time()
    trainer.train()
    seconds, tokens = time.time() - start, trainer.state.log_history[-2]["num_tokens"]
    print(f"{STEPS} steps of {BATCH}, {tokens:.0f} tokens, {seconds:.0f} s, ", end="")
    print(f"{tokens / seconds:.0f} tokens/s, loss {trainer.state.log_history[-2]['loss']:.3f}")
    models.save_model(model, tokenizer, tmp_path / "model")  # what a later stage would read
    model, tokenizer = models.load_model(tmp_path / "model")
    unseen = torch.ones(model.config.vocab_size, dtype=torch.bool)
    for ids in trainer.train_dataset["input_ids"]:
        unseen[ids] = False
    pairs = think_tag.before_the_tag(conversations, tokenizer)
    check = think_tag.check_tag(*think_tag.tag_probability(model, tokenizer, pairs, unseen))
    print(f"{check.name}: {check.found}")
    after = measure("after")
    assert check.ok
    assert before < after and after >= 0.75 * PROBLEMS


@pytest.mark.skipif(not os.environ.get("TRLM_REAL_RUN"), reason="set TRLM_REAL_RUN to a run")
def test_grpo_killed_between_checkpoints_ends_the_same(tmp_path):
    """kill -9 after the checkpoint of step 2 of 4; the same command then goes on from it."""
    from test_sequence import command, kill, same_result, started, wait_for

    reads = ("01_data_curation", "04_dpo", "05_grpo_rewards")
    given = [f"01_data_curation.DATA_DIR={verify.FILES}", "06_grpo.MAX_STEPS=4"]
    given += ["06_grpo.SAVE_STEPS=2", "06_grpo.LOOK_EVERY=4"]
    arguments = ["run", "smollm2", "--scale", "cpu", "--only", "06_grpo"]
    arguments += [word for text in given for word in ("--set", text)]
    for side in ("whole", "killed"):
        for name in reads:
            source = Path(os.environ["TRLM_REAL_RUN"]) / name
            shutil.copytree(source, tmp_path / side / "smollm2-cpu" / name)
    done = command(tmp_path / "whole", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    expected, folder = (tmp_path / side / "smollm2-cpu" / "06_grpo" for side in ("whole", "killed"))
    process = started(tmp_path / "killed", arguments)
    wait_for(folder / "checkpoints" / "checkpoint-2" / "trainer_state.json", process, 900)
    time.sleep(5)
    kill(process, tmp_path / "killed")
    done = command(tmp_path / "killed", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "went on from step 2" in (folder / "notebook.ipynb").read_text()
    same_result(folder, expected)
    for place in (expected, folder):
        print(f"peak memory {read_json(place / 'manifest.json')['peak_rss_mb']:.0f} MB")
