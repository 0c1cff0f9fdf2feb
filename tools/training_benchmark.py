"""Seconds from random weights until 80 % of new problems are solved, for four sets of settings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.turns import line

TARGET, ROWS, LOOKS = 0.80, 48_000, 20

PATIENCE = 6.0  # time limit of the other settings, as a multiple of the course's time


RATE = 5.0e-3  # AdamW's learning rate for all; published ones are for models 1,000 times larger


def training_settings() -> dict[str, dict[str, Any]]:
    """The settings that differ between the four sets: name -> settings.

    ``matrix_rate`` means that Muon is used. ``lean`` means `sft.make_trainer`, which computes
    the same loss with less work.
    """
    trlm = {
        "per_device_train_batch_size": 32,
        "gradient_checkpointing": True,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
        "neftune_noise_alpha": 0.01,
    }
    return {
        "this course": {
            "per_device_train_batch_size": 32,
            "assistant_only_loss": True,
            "gradient_checkpointing": False,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.05,
            "matrix_rate": 0.015,
            "lean": True,
        },
        # SFTConfig's defaults: batch 8, linear decay, loss on all tokens, activation checkpointing
        "TRL's defaults": {},
        # 128 rows per step, as published
        "trlm's settings": trlm | {"gradient_accumulation_steps": 4},
        "trlm's, 32 rows a step": trlm,
    }


def stop_at_target(
    model: Any, tokenizer: Any, problems: Sequence[Any], every: int, limit: float
) -> Any:
    """A callback that stops training at the target accuracy, or after ``limit`` seconds.

    The time of the evaluations in this callback is not counted.
    """
    from transformers import TrainerCallback

    from trlm_utils import answers, chat, generation

    prompts = [chat.render(tokenizer, chat.to_prompt(p.question), prompt=True) for p in problems]

    class StopAtTarget(TrainerCallback):
        began, looking, reached, accuracy = 0.0, 0.0, False, 0.0

        @property
        def seconds(self) -> float:
            return time.perf_counter() - self.began - self.looking

        def on_train_begin(self, args, state, control, **kwargs):  # noqa: ANN001
            self.began = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):  # noqa: ANN001
            control.should_training_stop |= self.seconds > limit
            if state.global_step % every:
                return
            start = time.perf_counter()
            drawn = generation.sample(model, tokenizer, prompts, max_new_tokens=120)
            right = [
                bool(answers.grade(d.text, p.answer)) for d, p in zip(drawn, problems, strict=True)
            ]
            self.accuracy = sum(right) / len(right)
            self.reached = self.accuracy >= TARGET
            control.should_training_stop |= self.reached
            self.looking += time.perf_counter() - start

    return StopAtTarget()


def time_to_target(
    settings: dict[str, Any], seed: int, folder: Path, limit: float
) -> tuple[bool, float, float]:
    """Train until the target accuracy, the end of the data or ``limit`` seconds.

    Returns:
        Whether the target was reached, seconds of training, and the last accuracy.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from trlm_utils import models, nanoworld, tokenization
    from trlm_utils.curation import data_sets
    from trlm_utils.training import callbacks, optimizers, sft

    settings = dict(settings)
    matrix_rate = settings.pop("matrix_rate", 0.0)
    build = sft.make_trainer if settings.pop("lean", False) else SFTTrainer
    tokenizer = tokenization.build_tokenizer(nanoworld.sample_text())
    model = models.build_model(tokenizer, seed=seed)
    rows = data_sets.world_thinking(ROWS, seed, {"careful": 1.0}, [23, 23, 23, 23, 4, 4])
    config = SFTConfig(
        output_dir=str(folder),
        **{"learning_rate": RATE, "max_length": 256, "seed": seed, "bf16": False} | settings,
        num_train_epochs=1,  # schedules end with the data; the default is three epochs
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_steps=1000,
        disable_tqdm=True,
    )
    optimizer = optimizers.muon(model, RATE, matrix_rate) if matrix_rate else None
    trainer = build(
        model,
        args=config,
        train_dataset=Dataset.from_list([{"messages": row["messages"]} for row in rows]),
        processing_class=tokenizer,
        optimizers=(optimizer, None),
    )
    every = ROWS // config.per_device_train_batch_size // LOOKS
    problems = nanoworld.make_problems("benchmark", 200, held_out=True)
    stop = stop_at_target(model, tokenizer, problems, every, limit)
    callbacks.quiet(trainer, []).add_callback(stop)
    trainer.train()
    return stop.reached, stop.seconds, stop.accuracy


def training_times(seeds: Sequence[int]) -> None:
    """Print the time to the target for each set of settings, and its ratio to the course's.

    A set of settings that does not reach the target counts with the time it had (all data,
    or `PATIENCE` times the course's seconds). Its ratio is then a lower bound, and the line
    says so.
    """
    import tempfile

    from trlm_utils import machine

    machine.limit_threads()
    print(f"seconds until {TARGET:.0%} sampled, at most {ROWS:,} problems")
    times: dict[str, list[float]] = {name: [] for name in training_settings()}
    missed = dict.fromkeys(times, 0)
    for seed in seeds:
        limit = float("inf")
        for name, settings in training_settings().items():  # the course's settings come first
            with tempfile.TemporaryDirectory() as folder:
                reached, seconds, accuracy = time_to_target(settings, seed, Path(folder), limit)
            times[name].append(seconds)
            limit = PATIENCE * times["this course"][-1]
            missed[name] += not reached
            print(f"  seed {seed}  {name:<18} {seconds:6.0f} s, {accuracy:.0%}", flush=True)
    ours = times["this course"]
    for name, found in times.items():
        ratios = [b / a for a, b in zip(ours, found, strict=True)]
        note = f"at least: {missed[name]} of {len(seeds)} did not get there" * bool(missed[name])
        print(line(f"{name}, times this course's", ratios, note), flush=True)
