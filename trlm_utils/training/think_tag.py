"""Early check that a model learns to open a thought: the probability of the think tag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trlm_utils import answers, chat, generation
from trlm_utils.training.preflight import SAMPLE, Check, report

TAG_ROWS = 8  # number of rows on which the probability of the think tag is measured


def before_the_tag(
    conversations: Sequence[Sequence[chat.Message]], tokenizer: Any, rows: int = TAG_ROWS
) -> list[tuple[str, str]]:
    """The text before the first ``<think>`` in a conversation's replies, and the tag.

    Returns:
        Pairs of two texts for the ``rows`` conversations with the shortest first text: the
        rendered text before the tag, and the tag with a few characters after it (a token may
        extend beyond the tag).
    """
    found = []
    for messages in list(conversations)[:SAMPLE]:
        for place, message in enumerate(messages):
            head, tag, rest = message["content"].partition(answers.OPEN)
            if message["role"] == "assistant" and tag:
                asked = chat.render(tokenizer, messages[:place], prompt=True)
                found.append((asked + head, tag + rest[:8]))
                break
    return sorted(found, key=lambda pair: len(pair[0]))[:rows]


def tag_probability(
    model: Any, tokenizer: Any, pairs: Sequence[tuple[str, str]], unseen: Any
) -> tuple[float, float]:
    """Mean probabilities at the position of the tag: of the tag, and of ``unseen`` tokens.

    Args:
        pairs: see `before_the_tag`.
        unseen: bool tensor ``[vocabulary]``, True for tokens that occur in no training row.

    Returns:
        Mean probability of the tag, and mean total probability of all unseen tokens.
    """
    tags, others = 0.0, 0.0
    texts = [head + rest for head, rest in pairs]
    spans = [(len(head), len(head) + len(answers.OPEN)) for head, _ in pairs]
    read = generation.read(model, tokenizer, texts, batch_size=1)
    for (start, end), (encoded, logits) in zip(spans, read, strict=True):
        offsets = encoded["offset_mapping"][0].tolist()
        places = [i for i, (a, b) in enumerate(offsets) if b > start and a < end]
        chances = logits[0, [place - 1 for place in places]].softmax(-1).cpu()
        ids = encoded["input_ids"][0, places, None]
        tags += float(chances.gather(1, ids).prod())  # product over the tokens of the tag
        others += float(chances[0, unseen].sum())
    return tags / len(pairs), others / len(pairs)


def check_tag(probability: float, unseen: float) -> Check:
    """Check that the tag is more probable than the tokens that occur in no training row."""
    found = f"{probability:.4f} at its place, tokens that no row has {unseen:.4f}"
    advice = "leave ADD_THINK_TOKENS false and LORA_RANK 0, or raise the learning rate"
    return Check(f"probability of {answers.OPEN}", found, probability > unseen, advice)


def watch_tag(
    trainer: Any,
    conversations: Sequence[Sequence[chat.Message]],
    allowed: dict[str, str] | None = None,
) -> Any:
    """A callback that stops training early if the model does not learn the think tag.

    It checks once: after the warm-up and then a tenth of all steps, at least 20. Shorter
    trainings are not checked. The check does not change the training.

    Raises:
        PreflightError: during training, when the check fails and is not in ``allowed``.
    """
    import torch
    from transformers import TrainerCallback

    tokenizer = trainer.processing_class
    pairs = before_the_tag(conversations, tokenizer)
    unseen = torch.ones(trainer.model.get_output_embeddings().weight.shape[0], dtype=torch.bool)
    for ids in trainer.train_dataset[:SAMPLE]["input_ids"]:
        unseen[ids] = False

    class WatchTag(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):  # noqa: ANN001
            wait = args.get_warmup_steps(state.max_steps) + max(20, state.max_steps // 10)
            if not pairs or state.global_step != wait:
                return
            check = check_tag(*tag_probability(model, tokenizer, pairs, unseen))
            print(f"step {state.global_step}: {check.name} {check.found}", flush=True)
            report([check], allowed)

    return WatchTag()
