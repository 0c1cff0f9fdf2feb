"""The SFT trainer of the course: TRL's trainer, with less computation on a CPU.

Without Triton, TRL computes logits at every position, including padding and prompts, and
recomputes them in the backward pass to save memory. Here logits are computed once, and only
for tokens that carry loss; packing avoids most of the padding. Loss and gradients are the
same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trlm_utils import ranks
from trlm_utils.training import optimizers

# Arguments of SFTTrainer that use the batch or the loss; with one of them TRL's trainer is used.
OWN_WAYS = {"data_collator", "compute_loss_func", "compute_metrics"}


def pack(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Pack items into bins of capacity ``width`` (best-fit decreasing).

    Items are taken longest first; each goes into the fullest bin that it fits into.

    Returns:
        The bins, as indices of ``lengths``; an item longer than ``width`` gets its own bin.
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
    """A data collator that packs several conversations into one row, to avoid padding.

    A row is as long as the batch's longest conversation. The position_ids restart at 0 in
    each conversation. If there is no attention mask, transformers detects this and masks
    attention between conversations, so the loss equals that of the padded batch. TRL's
    ``packing`` puts the whole batch into one row; without FlashAttention the attention over
    so long a row costs more than padding.

    Args:
        pad: id of the padding token.
    """

    pad: int

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Collate examples with ``input_ids`` and ``labels`` into one batch.

        Returns:
            Integer tensors ``input_ids``, ``labels`` and ``position_ids`` ``[rows, tokens]``.
        """
        import torch

        lengths = [len(example["input_ids"]) for example in examples]
        width = max(lengths)
        rows: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "position_ids": []}
        for chosen in pack(lengths, width):
            ids, labels, positions = [], [], []
            for i in chosen:
                ids += examples[i]["input_ids"]
                # the first token has no label: the conversation before must not predict it
                labels += [-100, *examples[i]["labels"][1:]]
                positions += range(lengths[i])
            rest = width - len(ids)
            rows["input_ids"].append(ids + [self.pad] * rest)
            rows["labels"].append(labels + [-100] * rest)
            rows["position_ids"].append([*positions, *range(rest)])
        return {name: torch.tensor(values) for name, values in rows.items()}


def keeps_apart(model: Any) -> bool:
    """Whether packed conversations do not influence each other in this model.

    This is usually true for attention layers, which transformers masks where position_ids
    restart at 0. It is false for state-space and convolution layers, and for models that
    compute positions themselves. The test: with two packed conversations, the gradient of the
    second one's logits with respect to the first one's embeddings must be 0.
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
    """An SFTTrainer, faster for the plain loss in one process on a CPU; else TRL's unchanged.

    In the fast case rows are packed (`PackedRows`) if the model keeps packed conversations
    independent (`keeps_apart`), entropy is not logged, and all tokens but padding tokens are
    counted. In both cases the embedding rows of think tokens that were added to a pretrained
    model have a higher learning rate (`optimizers.faster_rows`).

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
        return ranks.taking_optimizers(SFTTrainer)(model, args=args, **others)
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
            # use the model's own forward, so that its logit scaling or soft-capping still applies
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
