"""Configuration shared by all training stages: settings, precision, batch sizes.

The trainers are TRL's. A notebook writes out its own configuration and passes it to
`make_config`, which knows the names that TRL renamed or removed.
"""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import Any

from trlm_utils import ranks
from trlm_utils.machine import Precision, torch_device

# Old name -> name in transformers 5 / TRL 1.
RENAMED = {
    "max_seq_length": "max_length",
    "evaluation_strategy": "eval_strategy",
    "warmup_ratio": "warmup_steps (a float below 1 is a share of all steps)",
    "gradient_checkpointing": "activation_checkpointing",
    "max_prompt_length": "nothing: filter long prompts in the data set",
    "tokenizer": "processing_class (an argument of the trainer)",
    "no_cuda": "use_cpu",
}

# Losses of TRL's trainers and schedules of transformers (a test compares the lists with theirs).
LOSSES = {
    "sft": ("nll", "dft"),
    "dpo": (
        "sigmoid hinge ipo exo_pair nca_pair robust bco_pair sppo_hard aot aot_unpaired "
        "apo_zero apo_down discopop sft sigmoid_norm"
    ).split(),
    "grpo": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
}
SCHEDULERS = (
    "linear cosine cosine_with_restarts polynomial constant constant_with_warmup inverse_sqrt "
    "reduce_lr_on_plateau cosine_with_min_lr cosine_warmup_with_min_lr warmup_stable_decay greedy"
).split()


def make_config(config_class: type, **settings: Any) -> Any:
    """Build a TRL configuration, with a helpful message for an unknown name.

    Batch settings are those of one process; with several ranks they are divided (`for_ranks`).

    Raises:
        ValueError: for a setting that the class does not have, naming the replacement; for a
            batch that the ranks cannot share; for continuous batching in half precision.
    """
    known = {f.name for f in dataclasses.fields(config_class) if f.init}
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            instead = RENAMED.get(name) or (near[0] if near else "")
            advice = f"; today: {instead}" if instead else ""
            raise ValueError(f"{config_class.__name__} has no {name!r}{advice}")
    if settings.get("use_transformers_continuous_batching") and (
        settings.get("bf16") or settings.get("fp16")
    ):
        raise ValueError(
            "ROLLOUTS transformers needs fp32: TRL 1.16 turns the trained weights to half "
            "precision before it draws, and not back"
        )
    return config_class(**for_ranks(settings, ranks.world()))


def for_ranks(settings: dict[str, Any], world: int) -> dict[str, Any]:
    """Settings with which so many ranks together take the batch that one process would take.

    Each rank accumulates fewer batches or, where their number is not divisible, takes a smaller
    one. With accelerate's order of batches each optimizer step then trains on the same rows.

    Raises:
        ValueError: when the batch cannot be divided; or when the completions of a prompt
            (its group) would be split between ranks.
    """
    if world == 1 or "per_device_train_batch_size" not in settings:
        return settings
    size = settings["per_device_train_batch_size"]
    passes = settings.get("gradient_accumulation_steps", 1)
    if (size * passes) % world:
        raise ValueError(f"a step's batch of {size * passes} cannot be divided among {world} ranks")
    own = size * passes // world
    size = max(number for number in range(1, size + 1) if own % number == 0)
    passes = own // size
    divided = {"per_device_train_batch_size": size, "gradient_accumulation_steps": passes}
    if "steps_per_generation" in settings:
        divided["steps_per_generation"] = passes
    group = settings.get("num_generations", 1)
    if (size * passes) % group:
        raise ValueError(
            f"{world} ranks would split a group of {group} completions: "
            "PROMPTS_PER_STEP must be a multiple of the ranks"
        )
    return settings | divided


def common_settings(
    output_dir: Path, precision: Precision, seed: int, checkpointing: bool = False
) -> dict[str, Any]:
    """Settings that all trainers share: no remote logging, little output, right for the device.

    TRL's defaults are bf16 and activation checkpointing. On a CPU the first raises an error,
    and the second slows training down and corrupts sampling from the model in training.

    Args:
        output_dir: folder of the checkpoints.
        checkpointing: use activation checkpointing.
    """
    halved, on_cpu = precision.name != "fp32", torch_device().type == "cpu"
    return {
        "output_dir": str(output_dir),
        "seed": seed,
        "data_seed": seed,
        "bf16": precision.bf16,
        "fp16": precision.fp16,
        # transformers must be told to use the CPU, for bf16 and for several ranks on it
        "use_cpu": on_cpu and (halved or ranks.world() > 1),
        "activation_checkpointing": checkpointing,
        "dataloader_pin_memory": halved and not on_cpu,
        "report_to": "none",
        "disable_tqdm": True,
        "save_total_limit": 2,
        "logging_steps": 10,
    }


def grpo_batch(prompts_per_step: int, group_size: int, micro_batch: int) -> dict[str, int]:
    """Convert "prompts per step" and "group size" into TRL's batch settings.

    Args:
        prompts_per_step: prompts in one optimizer step.
        group_size: completions per prompt (the group that rewards are compared in).
        micro_batch: completions in one forward and backward pass.

    Returns:
        ``per_device_train_batch_size``, ``gradient_accumulation_steps``,
        ``steps_per_generation`` and ``num_generations``; one generation per step.

    Raises:
        ValueError: when the completions of a step cannot be split into micro-batches.
    """
    if group_size < 2:
        raise ValueError(f"GROUP_SIZE is {group_size}: a group needs at least 2 rollouts")
    total = prompts_per_step * group_size
    if prompts_per_step < 1 or micro_batch < 1 or total % micro_batch:
        raise ValueError(
            f"{prompts_per_step} prompts x {group_size} completions = {total} cannot be "
            f"split into micro-batches of {micro_batch}"
        )
    accumulation = total // micro_batch
    return {
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "steps_per_generation": accumulation,
        "num_generations": group_size,
    }
