"""Trainer callbacks: log lines, progress, held-out accuracy, permanently kept checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def step_line(names: Sequence[str], every: int = 1) -> Any:
    """A callback that prints one line per logged step, in terminals and notebooks.

    Args:
        names: log entries to print; missing ones are skipped.
        every: print one in ``every`` logged steps.
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


def step_progress() -> Any:
    """A callback that reports every optimizer step to `trlm_utils.progress`."""
    from transformers import TrainerCallback

    from trlm_utils import progress

    class StepProgress(TrainerCallback):
        task = None

        def on_train_begin(self, args, state, control, **kwargs):  # noqa: ANN001
            self.task = progress.begin("training steps", state.max_steps, state.global_step)

        def on_step_end(self, args, state, control, **kwargs):  # noqa: ANN001
            self.task.at(state.global_step)

        def on_train_end(self, args, state, control, **kwargs):  # noqa: ANN001
            progress.end(self.task)

    return StepProgress()


def held_out_accuracy(
    rows: Sequence[dict[str, Any]],
    tokenizer: Any,
    every: int,
    max_new_tokens: int,
    temperature: float = 0.0,
    trainer: Any = None,
    replies: Path | None = None,
    shown: int = 6,
) -> Any:
    """A callback that regularly samples replies to held-out prompts and logs their accuracy.

    It writes ``held_out_accuracy`` (in [0, 1]) into the trainer's log before the first step
    and every ``every`` steps. The state of the random number generators is restored
    afterwards, so the evaluation does not change the training.

    Args:
        rows: prompts with gold answers that the trainer does not train on.
        every: optimizer steps between two evaluations.
        max_new_tokens: token budget of a completion.
        temperature: 0 means greedy decoding.
        trainer: the trainer, whose tracker then gets the accuracy too (`trackers`).
        replies: file (JSON lines) for the replies to ``shown`` of the prompts, from short to
            long ones, at each evaluation: step, question, answer, reply, right. A resumed
            training keeps the rows up to the step from which it goes on.
    """
    import torch
    from transformers import TrainerCallback

    from trlm_utils import answers, chat, generation, ranks
    from trlm_utils.files import read_rows, write_rows

    prompts = [chat.render(tokenizer, row["prompt"], prompt=True) for row in rows]
    by_length = sorted(range(len(rows)), key=lambda i: len(prompts[i]))
    chosen = by_length[:: max(1, len(rows) // shown)][:shown]

    class HeldOutAccuracy(TrainerCallback):
        kept: list[dict[str, Any]] = []  # replaced before it is changed

        def look(self, state, model):  # noqa: ANN001
            how = {"max_new_tokens": max_new_tokens, "temperature": temperature}
            how["seed"] = ranks.seed(state.global_step)
            with torch.random.fork_rng():
                drawn = ranks.together(
                    lambda own: generation.sample(model, tokenizer, own, **how), prompts
                )
            right = [
                bool(answers.grade(reply.text, row["answer"]))
                for reply, row in zip(drawn, rows, strict=True)
            ]
            entry = {"held_out_accuracy": sum(right) / len(right)}
            if trainer is None:
                state.log_history.append(entry | {"step": state.global_step})
            else:
                _log(trainer, entry)
            if replies:
                self.kept += [
                    {"step": state.global_step, "question": rows[i]["prompt"][-1]["content"]}
                    | {"answer": rows[i]["answer"], "reply": drawn[i].text, "right": right[i]}
                    for i in chosen
                ]
                write_rows(replies, self.kept)

        def on_train_begin(self, args, state, control, model=None, **kwargs):  # noqa: ANN001
            before = read_rows(replies) if replies and replies.exists() else []
            self.kept = [row for row in before if row["step"] <= state.global_step > 0]
            if rows and state.global_step == 0:
                self.look(state, model)

        def on_step_end(self, args, state, control, model=None, **kwargs):  # noqa: ANN001
            if rows and state.global_step % every == 0:
                self.look(state, model)

    return HeldOutAccuracy()


def _log(trainer: Any, entry: dict[str, float]) -> None:
    """Write an entry into the trainer's log and its tracker, beside the row of the same step.

    ``trainer.log`` of TRL would add the step's metrics, which belong to that row, and logging
    would count as done for this step.
    """
    from transformers import Trainer

    asked = trainer.control.should_log
    Trainer.log(trainer, entry)
    trainer.control.should_log = asked


def kept_checkpoints(folder: Path, tokenizer: Any) -> Any:
    """A callback that saves the model of every checkpoint in ``<folder>/step_<n>/model``.

    If the model has LoRA adapters, only these are saved; `models.load_model` merges them. A model
    whose weights are divided among ranks is saved whole, adapters merged.
    """
    from transformers import TrainerCallback

    from trlm_utils import models, ranks
    from trlm_utils.inference_copy import whole

    class KeptCheckpoints(TrainerCallback):
        def on_save(self, args, state, control, model=None, **kwargs):  # noqa: ANN001
            model = whole(model, "cpu")  # on all ranks
            if state.is_world_process_zero:
                models.save_model(model, tokenizer, folder / f"step_{state.global_step}" / "model")

        def on_train_begin(self, args, state, control, model=None, **kwargs):  # noqa: ANN001
            step = state.global_step  # above 0 when resumed: on_save may have been interrupted
            if step and ranks.from_first(not (folder / f"step_{step}" / "model").exists()):
                self.on_save(args, state, control, model)

    return KeptCheckpoints()


def pushed_checkpoints(stage: Any, name: str) -> Any:
    """A callback that pushes every kept checkpoint to the Hub; after `kept_checkpoints`.

    A push that fails costs a printed line; `hub.push` at the stage's end tries it again.

    Args:
        stage: the open stage.
        name: ``owner/name``, see `hub`.
    """
    from transformers import TrainerCallback

    from trlm_utils.training import hub

    class PushedCheckpoints(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):  # noqa: ANN001
            if state.is_world_process_zero:
                print(hub.push_checkpoint(stage, state.global_step, name), flush=True)

    return PushedCheckpoints()


def rollout_speed(draw: Any) -> Any:
    """A callback that writes the speed of rollouts into the last row of the trainer's log.

    The log is kept in the checkpoint, so the speed is known even after the process ends.

    Args:
        draw: the `rollouts.Rollouts` that the trainer samples with.
    """
    from transformers import TrainerCallback

    class RolloutSpeed(TrainerCallback):
        def on_train_end(self, args, state, control, **kwargs):  # noqa: ANN001
            state.log_history[-1]["rollout_tokens_per_second"] = draw.tokens_per_second

    return RolloutSpeed()


def quiet(trainer: Any, names: Sequence[str], every: int = 1) -> Any:
    """Replace the trainer's printing and tables by `step_line`, and report its progress.

    Returns:
        The trainer.
    """
    from transformers import PrinterCallback, ProgressCallback

    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(step_progress())
    trainer.add_callback(step_line(names, every))
    return trainer
