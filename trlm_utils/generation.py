"""Sampling from a model: one function for rollouts, preference pairs, probes and evaluation.

With models this small transformers' ``generate`` spends most of its time on needless work:
it prefills the same prompt once per sample, copies the whole KV cache at every token, and
keeps computing for completions that have ended. `complete` prefills each distinct prompt
once, writes keys and values into preallocated memory, and removes ended completions from
the batch. The distribution is the same; `make benchmark` measures both speeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trlm_utils import machine, progress
from trlm_utils.inference_copy import whole

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Tokens = list[int]

CPU_BATCH, GPU_BATCH = 256, 2048  # completions in a batch: on a CPU; elsewhere, at most
GROWTH = 8  # tokens by which the KV cache grows at a time


@dataclass(frozen=True)
class Sample:
    """One completion: its text, its length in tokens, and whether the model ended it.

    ``finished`` is False for a truncated completion: the token budget ran out before the
    end token. ``tokens`` counts the end token.
    """

    text: str
    tokens: int
    finished: bool


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    batch_size: int | None = None,
    seed: int | None = None,
    draw: Callable[..., list[Tokens]] | None = None,
) -> list[Sample]:
    """Complete rendered prompts, one completion each, in the order given.

    Args:
        prompts: rendered text (see `chat.render`), not messages.
        max_new_tokens: token budget of a completion.
        temperature: 0 means greedy decoding; otherwise sampling without top-k.
        top_p: nucleus sampling (Holtzman et al. 2020): sample from the likeliest tokens
            that together have this probability; 1 uses the whole distribution.
        batch_size: completions computed at once; by default `usual_batch`.
        seed: if given, seeds torch before sampling (greedy decoding draws nothing).
        draw: another function like `complete`, by which another engine draws (`samplers`).

    Raises:
        ValueError: when a prompt and the budget do not fit into the model's context.
    """
    import torch

    if seed is not None:
        torch.manual_seed(seed)
    encoded = tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    drawn = (draw or complete)(
        model,
        encoded,
        end=end,
        pad=tokenizer.pad_token_id,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        batch_size=batch_size,
    )
    samples = []
    for ids in drawn:
        finished = ids[-1:] == [end]
        text = tokenizer.decode(ids[:-1] if finished else ids, skip_special_tokens=True)
        samples.append(Sample(text, len(ids), finished))
    return samples


def complete(
    model: PreTrainedModel,
    prompts: Sequence[Tokens],
    *,
    end: int,
    pad: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    batch_size: int | None = None,
) -> list[Tokens]:
    """Token ids of one completion per prompt, each up to and including the token ``end``.

    Equal prompts of a batch are prefilled once. A model that is divided among ranks is sampled
    through a whole copy (`inference_copy`). For the other arguments see `sample`.

    Raises:
        ValueError: when a prompt and the budget do not fit into the model's context.
    """
    model = whole(model)
    context = model.config.max_position_embeddings
    longest = max(map(len, prompts), default=0)
    if longest + max_new_tokens > context:
        raise ValueError(
            f"a prompt of {longest} tokens and {max_new_tokens} new ones do not fit "
            f"into the model's context of {context}: lower MAX_NEW_TOKENS, or take a model "
            "with more MAX_POSITIONS"
        )
    batch_size = batch_size or usual_batch(model, longest + max_new_tokens)
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), prompts[i]))
    completions: list[Tokens] = [[] for _ in prompts]
    with evaluating(model), progress.task("completions", len(order)) as task:
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            read = [prompts[i] for i in batch]
            with task.part(len(batch)):
                drawn = _complete_batch(model, read, end, pad, max_new_tokens, temperature, top_p)
            for i, ids in zip(batch, drawn, strict=True):
                completions[i] = ids
    return completions


def usual_batch(model: PreTrainedModel, tokens: int) -> int:
    """Default batch size: `CPU_BATCH` on a CPU; elsewhere as many as half the free memory holds.

    Larger batches amortise the fixed cost of a decoding step; on a CPU only until keys and
    values no longer fit into the processor's cache. On a CPU the number does not depend on
    the machine, because another batch size would draw other random numbers.

    Args:
        tokens: length of the longest prompt plus the token budget.
    """
    free = machine.free_device_memory()
    if model.device.type == "cpu" or free is None:
        return CPU_BATCH
    return max(1, min(GPU_BATCH, int(free / 2 / completion_bytes(model, tokens))))


def completion_bytes(model: PreTrainedModel, tokens: int) -> int:
    """Memory in bytes of one completion while it is sampled: its KV cache and its logits.

    The logits are held four times: as the model returns them, in fp32, as probabilities and
    as cumulative probabilities. Growing the cache copies it, so it is counted twice.
    """
    config, size = model.config, model.dtype.itemsize
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache = 2 * config.num_hidden_layers * heads * width * size * tokens
    return 2 * cache + 4 * 4 * config.vocab_size


def read(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    batch_size: int = 256,
) -> Iterator[tuple[Any, torch.Tensor]]:
    """Teacher-forced forward passes over texts: yields encoding and logits of each batch.

    Texts are padded on the right. Logits are float32, ``[texts, tokens, vocabulary]``. An
    encoding holds input_ids and attention_mask ``[texts, tokens]``, offset_mapping ``[..., 2]``.
    """
    for first in range(0, len(texts), batch_size):
        encoded = tokenizer(
            list(texts[first : first + batch_size]),
            add_special_tokens=False,
            padding=True,
            padding_side="right",
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        inputs = {name: encoded[name].to(model.device) for name in ("input_ids", "attention_mask")}
        with evaluating(model):
            logits = model(**inputs, use_cache=False).logits.float()
        yield encoded, logits


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Context in eval mode and without gradients; the former mode is restored at the end."""
    import torch

    was_training = model.training
    model.eval()  # in train mode activation checkpointing switches the KV cache off
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _complete_batch(
    model: PreTrainedModel,
    prompts: list[Tokens],
    end: int,
    pad: int,
    budget: int,
    temperature: float,
    top_p: float,
) -> list[Tokens]:
    import torch

    places: dict[tuple[int, ...], int] = {}
    source = [places.setdefault(tuple(ids), len(places)) for ids in prompts]
    width = max(map(len, places))
    ids = torch.tensor([[pad] * (width - len(k)) + list(k) for k in places])
    mask = torch.ones(len(places), width + budget, dtype=torch.long)
    for row, key in enumerate(places):
        mask[row, : width - len(key)] = 0
    ids, mask = ids.to(model.device), mask.to(model.device)
    cache = _cache(model.config)
    position = (mask[:, :width].cumsum(1) - 1).clamp(min=0)
    logits = _next_logits(model, ids, mask[:, :width], position, cache)
    in_place = _in_place(model.config)
    if in_place:
        # an additive float mask (0, or -inf on padding) is used as it is, while transformers
        # would rebuild a 0/1 mask at every token
        added = torch.zeros(mask.shape, dtype=model.dtype, device=mask.device)
        mask = added.masked_fill(mask == 0, float("-inf"))[:, None, None]

    rows = torch.tensor(source, device=model.device)  # index of each completion's prompt
    cache.batch_select_indices(rows)
    logits, mask, position = logits[rows], mask[rows], position[rows, -1:]
    live = torch.arange(len(prompts), device=model.device)
    written = torch.full((len(prompts), budget), end, device=model.device)
    done = torch.zeros_like(live, dtype=torch.bool)
    for step in progress.track(range(budget), "tokens"):
        token = _draw(logits, temperature, top_p)
        token[done] = end
        written[live, step] = token
        done |= token == end
        running = int((~done).sum())
        if not running or step == budget - 1:
            break
        if running <= 0.8 * len(live):  # dropping rows copies the cache, so not at every end
            keep = (~done).nonzero()[:, 0]
            cache.batch_select_indices(keep)
            mask, position, live = mask[keep], position[keep], live[keep]
            token, done = token[keep], done[keep]
        position = position + 1
        seen = mask[..., : width + step + 1]
        if in_place:
            seen = _by_kind(model.config, seen)
        logits = _next_logits(model, token[:, None], seen, position, cache)
    return [row[: row.index(end) + 1] if end in row else row for row in written.tolist()]


def _next_logits(
    model: PreTrainedModel, ids: Any, mask: Any, position: Any, cache: Any
) -> torch.Tensor:
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=position,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1].float()


def _draw(logits: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    import torch

    if temperature == 0:
        return logits.argmax(-1)
    scores = logits / temperature
    if top_p < 1:
        from transformers import TopPLogitsWarper

        scores = TopPLogitsWarper(top_p)(None, scores)
    # inverse transform sampling, as torch.multinomial would draw a random number for each token
    # of the vocabulary. The share is in (0, 1], so a token of probability 0 is never chosen.
    reached = scores.softmax(-1).cumsum(-1)
    share = 1 - torch.rand(len(reached), 1, device=reached.device)
    return torch.searchsorted(reached, share * reached[:, -1:])[:, 0]


def _cache(config: Any) -> Any:
    """A KV cache that is written in place; transformers' own for other kinds of layers."""
    from transformers.cache_utils import Cache, DynamicCache

    if not _in_place(config):
        return DynamicCache(config=config)
    layer = _in_place_layer()
    return Cache(layers=[layer() for _ in range(config.num_hidden_layers)])


def _kinds(config: Any) -> set[str]:
    return set(getattr(config, "layer_types", None) or ["full_attention"])


def _in_place(config: Any) -> bool:
    """Whether keys and values of all layers can be written in place.

    They can in layers with full attention, and in layers with a sliding window that
    ``layer_types`` names, as their masks can then be passed (`_by_kind`).
    """
    if "sliding_attention" in _kinds(config):
        return _kinds(config) <= {"full_attention", "sliding_attention"}
    return _kinds(config) == {"full_attention"} and not getattr(config, "sliding_window", None)


def _by_kind(config: Any, mask: torch.Tensor) -> Any:
    """The mask of one new token for each kind of layer.

    Args:
        mask: additive, ``[batch, 1, 1, tokens]``; the last token is the new one.

    Returns:
        The mask itself where all layers have full attention; otherwise a dictionary, which
        transformers' models with ``layer_types`` accept: in layers with a sliding window only
        the last ``sliding_window`` tokens are seen, the new one included.
    """
    if "sliding_attention" not in _kinds(config):
        return mask
    near = mask.clone()
    near[..., : max(0, mask.shape[-1] - config.sliding_window)] = float("-inf")
    return {"full_attention": mask, "sliding_attention": near}


def _in_place_layer() -> type:
    from transformers.cache_utils import DynamicLayer

    class InPlaceLayer(DynamicLayer):
        """Keys and values of one layer, ``[batch, heads, allocated tokens, head size]``.

        `DynamicLayer` copies all keys and values at every token. Here memory is allocated
        for `GROWTH` further tokens at a time; ``keys`` and ``values`` are views of the
        filled part. Memory for the whole budget is not allocated at once, because
        attention is twice as fast when rows lie close together in memory.
        """

        def __init__(self) -> None:
            super().__init__()
            self.room = self.filled = 0

        def update(self, key_states, value_states, *args, **kwargs):  # noqa: ANN001, ANN202
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self.stores = [key_states[:, :, :0], value_states[:, :, :0]]
            start, self.filled = self.filled, self.filled + key_states.shape[-2]
            if self.filled > self.room:
                self.room = self.filled + GROWTH
                self.stores = [self._moved(store, start) for store in self.stores]
            for store, new in zip(self.stores, (key_states, value_states), strict=True):
                store[:, :, start : self.filled] = new
            self._show()
            return self.keys, self.values

        def batch_select_indices(self, indices) -> None:  # noqa: ANN001
            kept = [store[indices, :, : self.filled] for store in self.stores]
            self.stores = [self._moved(store, self.filled) for store in kept]
            self._show()

        def _moved(self, store, filled):  # noqa: ANN001, ANN202
            batch, heads, _, size = store.shape
            new = store.new_empty(batch, heads, self.room, size)
            new[:, :, :filled] = store[:, :, :filled]
            return new

        def _show(self) -> None:
            self.keys, self.values = (s[:, :, : self.filled] for s in self.stores)

    return InPlaceLayer
