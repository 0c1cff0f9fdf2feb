"""Rollouts: the completions that GRPO samples from its policy while it trains."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trlm_utils import chat, generation, ranks
from trlm_utils.inference_copy import InferenceCopy

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Rollouts:
    """A ``rollout_func`` for TRL's GRPOTrainer that samples with `generation.complete`.

    It replaces TRL's call of ``generate``. Prompts are rendered as TRL renders them, and
    completions are sampled at the trainer's temperature from the same distribution.

    Args:
        max_new_tokens: token budget of a completion.
        batch_size: completions computed at once; by default `generation.usual_batch`.
        dtype: number format of the weights for sampling, one of `models.DTYPES`. If it is not
            float32, a copy of the policy (`InferenceCopy`) samples, which is faster on a GPU.
            Its probabilities then differ slightly from those of the trained policy. A policy
            whose weights are divided among ranks is always sampled through a whole copy.
        corrected: then return the copy's log-probabilities, too, so that the trainer can weigh
            completions by policy / sampler (`engines.trainer_class`). Costs a forward pass.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_new_tokens: int,
        batch_size: int | None = None,
        dtype: str = "float32",
        corrected: bool = False,
    ):
        self.tokenizer = tokenizer
        self.budget, self.batch_size = max_new_tokens, batch_size
        copied = dtype != "float32" or ranks.divided()
        self.copy = InferenceCopy(dtype) if copied else None
        self.corrected = corrected and copied
        self.tokens, self.seconds = 0, 0.0

    def __call__(self, prompts: list[Any], trainer: Any) -> dict[str, Any]:
        """Sample one completion for each conversation in ``prompts``."""
        began = time.perf_counter()
        texts = [chat.render(self.tokenizer, prompt, prompt=True) for prompt in prompts]
        encoded = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        policy = trainer.accelerator.unwrap_model(trainer.model)
        sampler = self.copy.of(policy) if self.copy else policy
        completions = generation.complete(
            sampler,
            encoded,
            end=self.tokenizer.eos_token_id,
            pad=self.tokenizer.pad_token_id,
            max_new_tokens=self.budget,
            temperature=trainer.args.temperature,
            batch_size=self.batch_size,
        )
        self.tokens += sum(map(len, completions))
        self.seconds += time.perf_counter() - began
        # with None, TRL computes log-probabilities with the trained model, as after generate
        logprobs = None
        if self.corrected:
            heat = trainer.args.temperature
            logprobs = logprobs_of(sampler, encoded, completions, temperature=heat)
        return {"prompt_ids": encoded, "completion_ids": completions, "logprobs": logprobs}

    @property
    def tokens_per_second(self) -> float:
        """Completion tokens sampled per second so far (0 before the first call)."""
        return self.tokens / self.seconds if self.seconds else 0.0


def logprobs_of(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
    *,
    temperature: float = 1.0,
    numbers: int = 2**27,
) -> list[list[float]]:
    """Log-probability of each token of the completions, at the temperature of sampling.

    Args:
        numbers: largest number of logits in a forward pass; limits the memory.
    """
    import torch

    found: list[list[float]] = []
    longest = max((len(p) + len(c) for p, c in zip(prompts, completions, strict=True)), default=1)
    batch_size = max(1, numbers // (longest * model.config.vocab_size))
    for first in range(0, len(prompts), batch_size):
        some = slice(first, first + batch_size)
        pairs = list(zip(prompts[some], completions[some], strict=True))
        width = max(len(p) + len(c) for p, c in pairs)
        ids = torch.tensor([[*p, *c, *[0] * (width - len(p) - len(c))] for p, c in pairs])
        mask = torch.tensor(
            [[1] * (len(p) + len(c)) + [0] * (width - len(p) - len(c)) for p, c in pairs]
        )
        ids, mask = ids.to(model.device), mask.to(model.device)
        with generation.evaluating(model):
            scores = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
            chosen = scores.gather(-1, ids[:, 1:, None])[..., 0].float() / temperature
            # row by row: all of them at once in fp32 would double the memory
            rest = [(row.float() / temperature).logsumexp(-1) for row in scores]
        rows = (chosen - torch.stack(rest)).tolist()
        for row, (p, c) in zip(rows, pairs, strict=True):
            found.append(row[len(p) - 1 : len(p) - 1 + len(c)])
    return found
