"""What every training stage shares: precision, configuration, resuming, batches.

The trainers are TRL's. A notebook builds its own configuration in plain view and
passes it through `make_config`, which knows the names that TRL renamed or removed.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Old name -> what to write today (transformers 5 / TRL 1).
RENAMED = {
    "max_seq_length": "max_length",
    "evaluation_strategy": "eval_strategy",
    "warmup_ratio": "warmup_steps (a float below 1 is a share of all steps)",
    "gradient_checkpointing": "activation_checkpointing",
    "max_prompt_length": "nothing: filter long prompts in the data set",
    "tokenizer": "processing_class (an argument of the trainer)",
    "no_cuda": "use_cpu",
}


@dataclass(frozen=True)
class Precision:
    """Number format for training, and the reason for it. Weights stay in fp32."""

    bf16: bool
    fp16: bool
    why: str

    @property
    def name(self) -> str:
        """``fp32``, ``fp16`` or ``bf16``."""
        return "bf16" if self.bf16 else "fp16" if self.fp16 else "fp32"


def choose_precision(device: str, capability: tuple[int, int] | None = None) -> Precision:
    """fp32 on CPU, fp16 before Ampere, bf16 from Ampere on and on AMD GPUs.

    The question "is bf16 supported" is no help: it is answered yes on a T4, which
    only emulates it. So the compute capability decides.

    Args:
        device: "cpu", "cuda", "rocm" or "mps".
        capability: CUDA compute capability (major, minor); for "cuda" only.

    Raises:
        ValueError: for another device, or "cuda" without a capability.
    """
    if device in ("cpu", "mps"):
        return Precision(False, False, f"{device}: half precision gains nothing here")
    if device == "rocm":
        return Precision(True, False, "ROCm GPU: bf16 in hardware")
    if device != "cuda" or capability is None:
        raise ValueError(f"no precision known for {device!r} with {capability}")
    if capability[0] >= 8:
        return Precision(True, False, f"compute capability {capability}: bf16 in hardware")
    return Precision(False, True, f"compute capability {capability}: bf16 only emulated")


def detect_device() -> tuple[str, tuple[int, int] | None]:
    """The device training will use, and its CUDA capability if it has one."""
    import torch

    if torch.cuda.is_available():
        if torch.version.hip:
            return "rocm", None
        return "cuda", torch.cuda.get_device_capability()
    mps = getattr(torch.backends, "mps", None)
    return ("mps" if mps and mps.is_available() else "cpu"), None


def on_device(model: Any) -> Any:
    """The model on the GPU if there is one, for a stage that has no trainer to move it."""
    import torch

    return model.to("cuda") if torch.cuda.is_available() else model


def make_config(config_class: type, **settings: Any) -> Any:
    """Build a TRL configuration; an unknown name gets one line saying what to write.

    Raises:
        ValueError: for a name that the class does not have.
    """
    known = {f.name for f in dataclasses.fields(config_class) if f.init}
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            instead = RENAMED.get(name) or (near[0] if near else "")
            advice = f"; today: {instead}" if instead else ""
            raise ValueError(f"{config_class.__name__} has no {name!r}{advice}")
    return config_class(**settings)


def common_settings(
    output_dir: Path, precision: Precision, seed: int, checkpointing: bool = False
) -> dict[str, Any]:
    """Settings that hold for every trainer: local, quiet, safe on this device.

    TRL's own defaults ask for bf16 and activation checkpointing; on a CPU the first
    raises and the second slows training and corrupts sampling from the live model.
    """
    on_gpu = precision.name != "fp32"
    return {
        "output_dir": str(output_dir),
        "seed": seed,
        "data_seed": seed,
        "bf16": precision.bf16,
        "fp16": precision.fp16,
        "activation_checkpointing": checkpointing,
        "dataloader_pin_memory": on_gpu,
        "report_to": "none",
        "disable_tqdm": True,
        "save_total_limit": 2,
        "logging_steps": 10,
    }


def whole_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints that can be resumed from, oldest first.

    A process killed while it saves leaves a checkpoint folder that lacks its last
    files or holds a cut-off one. The trainer writes ``trainer_state.json`` last.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    return [path for path in found if _is_whole(path)]


def _is_whole(checkpoint: Path) -> bool:
    import json

    from safetensors import safe_open

    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
        weights = list(checkpoint.glob("*.safetensors"))
        for path in weights:
            with safe_open(path, "pt") as tensors:
                tensors.keys()
    except Exception:
        return False
    needed = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
    return bool(weights) and all((checkpoint / n).is_file() for n in needed)


def train_or_resume(trainer: Any) -> str:
    """Train, going on from the newest whole checkpoint if there is one.

    Checkpoints that are half written are removed, and an older one is used.

    Returns:
        A line saying where training started.
    """
    folder = Path(trainer.args.output_dir)
    whole = whole_checkpoints(folder)
    for path in folder.glob("checkpoint-*"):
        if path not in whole:
            shutil.rmtree(path, ignore_errors=True)
    if whole:
        trainer.train(resume_from_checkpoint=str(whole[-1]))
        start = f"went on from step {whole[-1].name.split('-')[1]}"
    else:
        trainer.train()
        start = "started at step 0"
    trainer.model.eval()
    return start


def step_line(names: Sequence[str], every: int = 1) -> Any:
    """A callback that prints one line per logged step, in terminals and notebooks.

    Args:
        names: log entries to show; those missing from a line are skipped.
        every: show one in ``every`` logged lines.
    """
    from transformers import TrainerCallback

    class StepLine(TrainerCallback):
        count = 0

        def on_log(self, args, state, control, logs=None, **kwargs):  # noqa: ANN001
            shown = {name: logs[name] for name in names if logs and name in logs}
            if not shown:
                return
            if self.count % every == 0:
                values = "  ".join(f"{n} {float(v):.4g}" for n, v in shown.items())
                step = f"step {state.global_step:>5}/{state.max_steps}"
                print(f"{step}  {values}", flush=True)
            self.count += 1

    return StepLine()


def held_out_accuracy(
    rows: Sequence[dict[str, Any]],
    tokenizer: Any,
    every: int,
    max_new_tokens: int,
    temperature: float = 0.0,
) -> Any:
    """A callback that answers prompts now and then and logs the share right.

    It writes ``held_out_accuracy`` into the trainer's log before the first step and
    every ``every`` steps. Random numbers that it draws are given back, so training is
    not changed by looking.

    Args:
        rows: prompts with gold answers that the trainer does not train on.
        every: optimizer steps between two looks.
        temperature: 0 answers greedily.
    """
    import torch
    from transformers import TrainerCallback

    from trlm_utils import answers, chat, generation

    prompts = [chat.render(tokenizer, row["prompt"], prompt=True) for row in rows]

    class HeldOutAccuracy(TrainerCallback):
        def look(self, state, model):  # noqa: ANN001
            with torch.random.fork_rng():
                replies = generation.sample(
                    model,
                    tokenizer,
                    prompts,
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    seed=state.global_step,
                )
            right = [
                bool(answers.grade(reply.text, row["answer"]))
                for reply, row in zip(replies, rows, strict=True)
            ]
            entry = {"held_out_accuracy": sum(right) / len(right), "step": state.global_step}
            state.log_history.append(entry)

        def on_train_begin(self, args, state, control, model=None, **kwargs):  # noqa: ANN001
            if rows and state.global_step == 0:
                self.look(state, model)

        def on_step_end(self, args, state, control, model=None, **kwargs):  # noqa: ANN001
            if rows and state.global_step % every == 0:
                self.look(state, model)

    return HeldOutAccuracy()


def kept_checkpoints(folder: Path, tokenizer: Any) -> Any:
    """A callback that keeps the model of every checkpoint in ``<folder>/step_<n>/model``.

    Of a model with adapters the adapters alone are kept; `models.load_model` adds them.
    """
    from transformers import TrainerCallback

    from trlm_utils import models

    class KeptCheckpoints(TrainerCallback):
        def on_save(self, args, state, control, model=None, **kwargs):  # noqa: ANN001
            models.save_model(model, tokenizer, folder / f"step_{state.global_step}" / "model")

        def on_train_begin(self, args, state, control, model=None, **kwargs):  # noqa: ANN001
            step = state.global_step  # above 0 when resumed; a kill may have come in between
            if step and not (folder / f"step_{step}" / "model").exists():
                self.on_save(args, state, control, model)

    return KeptCheckpoints()


def quiet(trainer: Any, names: Sequence[str], every: int = 1) -> Any:
    """Replace the trainer's printing and tables by `step_line`; returns the trainer."""
    from transformers import PrinterCallback, ProgressCallback

    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(step_line(names, every))
    return trainer


def grpo_batch(prompts_per_step: int, group_size: int, micro_batch: int) -> dict[str, int]:
    """Turn "prompts per step" and "group size" into TRL's batch settings.

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


def tokens_seen(log: Any) -> int:
    """Tokens of a whole training, from its log (column ``num_tokens``).

    TRL counts from 0 again in a process that goes on from a checkpoint; a fall in the
    column is such a start, so the parts are added up.
    """
    if "num_tokens" not in log:
        return 0
    total = before = 0.0
    for count in log["num_tokens"].dropna():
        total += count - before if count >= before else count
        before = count
    return int(total)


def training_speed(log: Any) -> float:
    """Tokens trained on per second of training, of this process (0 if it did not train).

    Args:
        log: the trainer's log; its last row has the run time of the process that ended
            the training, whose tokens are counted from 0.
    """
    if "num_tokens" not in log or "train_runtime" not in log:
        return 0.0
    counts, seconds = log["num_tokens"].dropna(), log["train_runtime"].dropna()
    if counts.empty or seconds.empty or seconds.iloc[-1] <= 0:
        return 0.0
    return float(counts.iloc[-1] / seconds.iloc[-1])


def cores() -> int:
    """Cores this process may use.

    A container often shows more cores than it grants.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_threads() -> int:
    """Let torch use the cores this process may use; returns their number.

    Otherwise torch starts as many threads as the machine shows cores.
    """
    import torch

    torch.set_num_threads(cores())
    return cores()
