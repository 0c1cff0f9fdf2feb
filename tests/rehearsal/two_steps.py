"""Two optimizer steps of TRL's SFT, DPO and GRPO trainers; then the second again, resumed.

    python two_steps.py FOLDER

Writes ``FOLDER/<method>.pt``: the device, the weights (on the CPU) before, after both steps, and
after resuming from the checkpoint of the first. Runs on the device that accelerate takes, so the
test runs it twice: on the rehearsal device and on the CPU.
"""

import sys
from pathlib import Path

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from trlm_utils import chat, models, nanoworld, tokenization

SHORT = {"max_length": 64}
METHODS = {
    "sft": (SFTConfig, SFTTrainer, SHORT),
    "dpo": (DPOConfig, DPOTrainer, SHORT),
    "grpo": (
        GRPOConfig,
        GRPOTrainer,
        {"max_completion_length": 6, "num_generations": 2, "beta": 0.1, "temperature": 1.0},
    ),
}


def rows(method):
    """Rows in the method's own format, four of them."""
    asked = [chat.to_messages(f"{n} + 1?", str(n + 1)) for n in range(4)]
    if method == "sft":
        return Dataset.from_list([{"messages": messages} for messages in asked])
    pairs = [
        {"prompt": m[:-1], "chosen": m[-1:], "rejected": chat.to_messages("x", "0")[-1:]}
        for m in asked
    ]
    return Dataset.from_list(pairs if method == "dpo" else [{"prompt": p["prompt"]} for p in pairs])


def digits(completions, **_):
    """A reward that differs between completions."""
    return [float(len(str(completion)) % 5) for completion in completions]


def make(method, folder, tokenizer):
    """A trainer of the method, on a fresh model with the same weights each time."""
    config_class, trainer_class, settings = METHODS[method]
    config = config_class(
        output_dir=str(folder / f"{method}_checkpoints"),
        max_steps=2,
        save_steps=1,
        learning_rate=1e-2,
        per_device_train_batch_size=2,
        bf16=False,
        activation_checkpointing=False,
        dataloader_pin_memory=False,
        report_to=[],
        disable_tqdm=True,
        seed=0,
        **settings,
    )
    others = {"reward_funcs": digits} if method == "grpo" else {}
    return trainer_class(
        model=models.load_model(folder / "base")[0],  # of a folder: TRL loads a reference from it
        args=config,
        train_dataset=rows(method),
        processing_class=tokenizer,
        **others,
    )


def weights(trainer):
    """Weights of the trainer's model, on the CPU."""
    return {name: w.detach().cpu().clone() for name, w in trainer.model.named_parameters()}


def main(folder):
    """Train each method, resume it, and write what came out."""
    tokenizer = tokenization.build_tokenizer(nanoworld.sample_text(300))
    base = models.build_model(tokenizer, hidden_size=16, layers=1, heads=2)
    models.save_model(base, tokenizer, folder / "base")
    for method in METHODS:
        trainer = make(method, folder, tokenizer)
        before = weights(trainer)
        trainer.train()
        resumed = make(method, folder, tokenizer)
        resumed.train(resume_from_checkpoint=str(Path(trainer.args.output_dir) / "checkpoint-1"))
        found = {"device": str(trainer.model.device), "steps": resumed.state.global_step}
        found |= {"before": before, "after": weights(trainer), "resumed": weights(resumed)}
        torch.save(found, folder / f"{method}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
