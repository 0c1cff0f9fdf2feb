"""Whether a model learns its think tag: the tag's probability at its place, early in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trlm_utils import answers, chat, generation
from trlm_utils.training.preflight import SAMPLE, Check, report

TAG_ROWS = 8  # rows in which the probability of the think tag is looked at


def before_the_tag(
    conversations: Sequence[Sequence[chat.Message]], tokenizer: Any, rows: int = TAG_ROWS
) -> list[tuple[str, str]]:
    """What stands before the first ``<think>`` of a conversation's replies, and what follows.

    Returns:
        Pairs of rendered text up to the tag, and the tag with a few characters behind it
        (tokens may reach beyond it), of the ``rows`` conversations with the least text.
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
    """Mean probabilities where a thought should open: of the tag, and of ``unseen`` tokens.

    Args:
        pairs: from `before_the_tag`.
        unseen: bool tensor ``[vocabulary]``, the tokens that no training row has.
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
        tags += float(chances.gather(1, ids).prod())  # a tag of several tokens needs them all
        others += float(chances[0, unseen].sum())
    return tags / len(pairs), others / len(pairs)


def check_tag(probability: float, unseen: float) -> Check:
    """Whether a thought is likelier to open with its tag than with a token of no training row."""
    found = f"{probability:.4f} at its place, tokens that no row has {unseen:.4f}"
    advice = "leave ADD_THINK_TOKENS false and LORA_RANK 0, or raise the learning rate"
    return Check(f"probability of {answers.OPEN}", found, probability > unseen, advice)


def watch_tag(
    trainer: Any,
    conversations: Sequence[Sequence[chat.Message]],
    allowed: dict[str, str] | None = None,
) -> Any:
    """A callback that stops a training early in which the think tag is not learned.

    It looks once, when a tenth of the steps and at least 20 have followed the warm-up;
    shorter trainings are not checked. It only reads, so results are the same without it.

    Raises:
        PreflightError: from the training, when the check fails and is not ``allowed`` to.
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
