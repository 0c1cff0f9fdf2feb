"""Other libraries' sampling, in the form of `generation.complete`: transformers and vLLM.

`generation.sample` takes one of them as ``draw``. Each takes prompts as token ids and returns
the token ids of one completion for each, up to and including the end token. They sample from
the same distribution as the course's loop: no top-k, no penalty for repetition, whatever a
model's own generation settings say. Greedy completions are equal up to rounding; sampled ones
are not, as each draws its random numbers in its own order.

How much slower or faster they are: ``python -m tools.benchmark rollouts`` and ``real-rollouts``.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trlm_utils import generation
from trlm_utils.files import CourseError
from trlm_utils.inference_copy import whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    Tokens = list[int]

NO_VLLM = "ROLLOUTS {} needs the package vllm, and that a GPU: pip install 'trl[vllm]', or course"
CPU_SHARE = 0.05  # of the free memory for the KV cache of continuous batching on a CPU
SHARE = 0.3  # of a card's memory for vLLM, beside the model that is loaded or trained


def named(engine: str) -> Callable[..., list[Tokens]]:
    """The function that completes prompts by this engine, with `generation.complete`'s arguments.

    Args:
        engine: course, generate, transformers (its continuous batching) or vllm.

    Raises:
        ValueError: for another name.
    """
    if engine not in BY_NAME:
        raise ValueError(f"ROLLOUTS is {engine!r}: write one of {', '.join(BY_NAME)}")
    return BY_NAME[engine]


def generate(
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
    """Complete prompts with transformers' ``generate``: all of a batch until the last has ended."""
    import torch

    model = whole(model)
    longest = max(map(len, prompts), default=0)
    batch_size = batch_size or generation.usual_batch(model, longest + max_new_tokens)
    settings = config(end, pad, max_new_tokens, temperature, top_p)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    completions: list[Tokens] = [[] for _ in prompts]
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        width = max(len(prompts[i]) for i in batch)
        ids = [[pad] * (width - len(prompts[i])) + list(prompts[i]) for i in batch]
        mask = [[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in batch]
        read = {"input_ids": ids, "attention_mask": mask}
        read = {name: torch.tensor(rows, device=model.device) for name, rows in read.items()}
        with generation.evaluating(model):
            written = model.generate(**read, generation_config=settings)[:, width:].tolist()
        for i, row in zip(batch, written, strict=True):
            completions[i] = row[: row.index(end) + 1] if end in row else row
    return completions


def continuous(
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
    """Complete prompts with transformers' continuous batching, which fills places as they end.

    Args:
        batch_size: not used; the library fits as many as memory holds.

    Raises:
        CourseError: when it returns fewer completions than prompts, or a failed one, which it
            only logs.
    """
    if not prompts:
        return []
    from transformers import ContinuousBatchingConfig

    model = whole(model)
    places = ContinuousBatchingConfig(**room(model.device.type))
    settings = config(end, pad, max_new_tokens, temperature, top_p)
    with generation.evaluating(model):
        found = model.generate_batch(
            [list(ids) for ids in prompts],
            generation_config=settings,
            continuous_batching_config=places,
        )
    written = list(found.values())
    failed = [one.error for one in written if one.error is not None]
    if failed or len(written) < len(prompts):
        why = failed[0] if failed else "it ended early"
        raise CourseError(
            f"ROLLOUTS transformers: {len(written) - len(failed)} of {len(prompts)} prompts were "
            f"completed ({why}): take ROLLOUTS course"
        )
    return [list(one.generated_tokens) for one in written]


def room(device: str) -> dict[str, float]:
    """Settings of continuous batching for its KV cache: on a CPU a share of what is free.

    By default it takes and clears nearly all free memory at every call, which on a card is quick.
    """
    return {"max_memory_percent": CPU_SHARE} if device == "cpu" else {}


def config(end: int, pad: int, max_new_tokens: int, temperature: float, top_p: float) -> Any:
    """transformers' GenerationConfig for the distribution that the course's loop samples from."""
    from transformers import GenerationConfig

    how = {"do_sample": False}
    if temperature > 0:
        how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": top_p}
    ids = {"eos_token_id": end, "pad_token_id": pad}
    return GenerationConfig(max_new_tokens=max_new_tokens, repetition_penalty=1.0, **how, **ids)


def vllm(
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
    """Complete prompts with vLLM, which reads the model's folder itself: for a saved model.

    Args:
        batch_size: not used; vLLM fits as many as memory holds.

    Raises:
        CourseError: when vLLM is not installed, or the model was not read from a folder.
    """
    import torch

    require_vllm()
    folder = model.name_or_path
    if not (folder and Path(folder, "config.json").is_file()):
        raise CourseError(f"ROLLOUTS vllm reads a saved model, and {folder!r} is no folder")
    from vllm import SamplingParams, TokensPrompt

    # one seed for each prompt: equal prompts of a group must not be completed alike
    seeds = torch.randint(2**31, (len(prompts),)).tolist()
    how = {"temperature": temperature, "top_p": top_p, "top_k": 0, "repetition_penalty": 1.0}
    how |= {"max_tokens": max_new_tokens, "stop_token_ids": [end], "detokenize": False}
    found = _reader(folder, str(model.dtype).removeprefix("torch.")).generate(
        [TokensPrompt(prompt_token_ids=list(ids)) for ids in prompts],
        [SamplingParams(seed=seed, **how) for seed in seeds],
        use_tqdm=False,
    )
    return [list(one.outputs[0].token_ids) for one in found]


@functools.lru_cache(maxsize=1)
def _reader(folder: str, dtype: str) -> Any:
    """vLLM's engine for a saved model; the last one is kept, as starting takes a minute."""
    from vllm import LLM

    # "vllm" leaves a model's own generation settings aside
    how = {"generation_config": "vllm", "gpu_memory_utilization": SHARE}
    return LLM(model=folder, dtype=dtype, **how)


def require_vllm(engine: str = "vllm") -> None:
    """Raise CourseError, with what to do instead, unless vLLM is installed."""
    if importlib.util.find_spec("vllm") is None:
        raise CourseError(NO_VLLM.format(engine))


BY_NAME: dict[str, Callable[..., list[Tokens]]] = {
    "course": generation.complete,
    "generate": generate,
    "transformers": continuous,
    "vllm": vllm,
}
