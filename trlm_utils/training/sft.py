"""The SFT trainer of the course: TRL's, which on a CPU computes only what the loss needs.

TRL scores every position where there is no Triton, padding and prompts too, and does so
again in the backward pass to save memory. Here only tokens that are trained on reach the
output layer, once, and little of a batch is padding. Loss and gradients are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trlm_utils.training import optimizers

# Arguments of SFTTrainer that see the batch or compute the loss: theirs is TRL's way.
OWN_WAYS = {"data_collator", "compute_loss_func", "compute_metrics"}


def pack(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Sort items into bins of at most ``width``, each into the fullest it fits, longest first.

    Returns:
        The bins, as indices of ``lengths``; an item longer than ``width`` has one alone.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = [b for b in range(len(bins)) if room[b] >= lengths[item]]
        if not fitting:
            fitting = [len(bins)]
            bins.append([])
            room.append(width)
        fullest = min(fitting, key=lambda b: room[b])
        bins[fullest].append(item)
        room[fullest] -= lengths[item]
    return bins


@dataclass(frozen=True)
class PackedRows:
    """A collator that lays conversations end to end, so that little of a batch is padding.

    Rows are as long as the longest conversation. Positions count from 0 in every one.
    Without an attention mask transformers takes that for its beginning and lets no token
    see an earlier one, so the loss is that of the padded batch. TRL's ``packing`` makes one
    row of the whole batch, whose attention costs more than padding without FlashAttention.

    Args:
        pad: the padding token.
    """

    pad: int

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Turn examples with ``input_ids`` and ``labels`` into one batch."""
        import torch

        lengths = [len(example["input_ids"]) for example in examples]
        width = max(lengths)
        rows: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "position_ids": []}
        for chosen in pack(lengths, width):
            ids, labels, positions = [], [], []
            for i in chosen:
                ids += examples[i]["input_ids"]
                # nothing of the conversation before this one predicts its first token
                labels += [-100, *examples[i]["labels"][1:]]
                positions += range(lengths[i])
            rest = width - len(ids)
            rows["input_ids"].append(ids + [self.pad] * rest)
            rows["labels"].append(labels + [-100] * rest)
            rows["position_ids"].append([*positions, *range(rest)])
        return {name: torch.tensor(values) for name, values in rows.items()}


def keeps_apart(model: Any) -> bool:
    """Whether a position of 0 begins a conversation that sees nothing of those before it.

    Models of attention layers do so as a rule; state-space and convolution layers, and
    models that count positions themselves, do not. Asked of the model: whether a second
    conversation's scores have a gradient in the first one's embeddings.
    """
    import torch

    embedded = []

    def follow(_module: Any, _inputs: Any, output: Any) -> Any:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    training = model.training
    model.eval()
    hook = model.get_input_embeddings().register_forward_hook(follow)
    ids, positions = torch.tensor([[1, 2, 3, 1, 2, 3]]), torch.tensor([[0, 1, 2, 0, 1, 2]])
    try:
        scores = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    finally:
        hook.remove()
        model.train(training)
    (gradient,) = torch.autograd.grad(scores[:, 3:].sum(), embedded[0])
    return not gradient[:, :3].any()


def make_trainer(model: Any, args: Any, **others: Any) -> Any:
    """An SFTTrainer; anything but the plain loss in one process on a CPU is TRL's as it is.

    Rows are packed (`PackedRows`) where that keeps conversations apart (`keeps_apart`).
    Entropy is not logged, and tokens are counted by what is not the padding token.
    Think tokens that were added to a pretrained model take larger steps everywhere
    (`optimizers.faster_rows`).

    Args:
        args: an SFTConfig.
        others: further arguments of SFTTrainer.
    """
    from trl import SFTTrainer

    others["callbacks"] = [*(others.get("callbacks") or []), *optimizers.faster_rows(model)]
    prompts_learned = any(c.is_prompt_learning for c in getattr(model, "peft_config", {}).values())
    if (
        args.device.type != "cpu"
        or args.world_size > 1
        or args.loss_type != "nll"
        or args.label_smoothing_factor
        or args.packing
        or args.padding_free
        or OWN_WAYS & others.keys()
        or prompts_learned
    ):
        return SFTTrainer(model, args=args, **others)
    trainer = _trained_tokens_only()(model, args=args, **others)
    if not trainer.aux_loss_enabled and keeps_apart(trainer.model):
        trainer.data_collator = PackedRows(trainer.processing_class.pad_token_id)
    return trainer


def _trained_tokens_only() -> type:
    from torch.nn.functional import cross_entropy
    from trl import SFTTrainer

    class TrainedTokensOnly(SFTTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # noqa: ANN001, ANN202
            if return_outputs or self.aux_loss_enabled or not model.training:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            inputs = dict(inputs)
            targets = inputs.pop("labels")[:, 1:]
            trained = targets != -100
            targets = targets[trained]
            head = model.get_output_embeddings()
            # the model's own forward, so that whatever it does to its logits is still done
            hook = head.register_forward_pre_hook(lambda _, hidden: hidden[0][:, :-1][trained])
            try:
                logits = model(**inputs, use_cache=False).logits.float()
            finally:
                hook.remove()
            count = targets.numel() if num_items_in_batch is None else num_items_in_batch
            right = (logits.detach().argmax(-1) == targets).sum() / max(1, targets.numel())
            self._metrics["train"]["mean_token_accuracy"].append(float(right))
            pad = self.processing_class.pad_token_id
            self._total_train_tokens += int((inputs["input_ids"] != pad).sum())
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
            return cross_entropy(logits, targets, reduction="sum") / max(1, int(count))

    return TrainedTokensOnly
