"""Adapter of a model for lm-eval: chat template, the course's sampling, lm-eval's likelihoods."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trlm_utils import answers, chat, generation, samplers
from trlm_utils.tokenization import END

TASKS = Path(__file__).with_name("tasks")  # the course's own tasks for lm-eval


def chat_lm(
    model: Any,
    tokenizer: Any,
    batch_size: int,
    seed: int,
    *,
    max_new_tokens: int | None = None,
    thoughts: bool = True,
    engine: str = "course",
) -> Any:
    """Wrap a model for lm-eval. The class is defined here because importing lm-eval is slow.

    Args:
        batch_size: completions, or likelihoods, computed at once.
        seed: seed of the sampling.
        max_new_tokens: token budget of every completion; None takes each task's own.
        thoughts: True for the course's tasks, which parse thoughts themselves. They get whole
            completions, with the end token if the model wrote it. False for lm-eval's tasks:
            they get the text after the thought, up to the task's first stop string. (lm-eval
            would also apply stop strings inside the thought, and truncate the reply there.)
        engine: what draws completions, see `samplers.named`; likelihoods are the model's own.
    """
    from lm_eval.api.model import LM

    class ChatLM(LM):
        """lm-eval's interface; ``drawn`` maps (task, question number) to its samples."""

        tokenizer_name = "trlm_utils"

        def __init__(self) -> None:
            super().__init__()
            self.drawn: dict[tuple[str, int], list[generation.Sample]] = {}

        def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
            how = requests[0].args[1]  # all requests of a suite have the same sampling settings
            found = generation.sample(
                model,
                tokenizer,
                [request.args[0] for request in requests],
                max_new_tokens=max_new_tokens or how["max_gen_toks"],
                temperature=how.get("temperature", 1.0) if how["do_sample"] else 0.0,
                top_p=how.get("top_p", 1.0),
                batch_size=batch_size,
                seed=seed,
                draw=samplers.named(engine),
            )
            for request, sample in zip(requests, found, strict=True):
                self.drawn.setdefault((request.task_name, request.doc_id), []).append(sample)
            if thoughts:
                return [s.text + END * s.finished for s in found]
            return [
                stopped(answers.parse(s.text).answer, request.args[1].get("until") or [])
                for request, s in zip(requests, found, strict=True)
            ]

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[Any]:
            from lm_eval.models.huggingface import HFLM

            with generation.evaluating(model):  # HFLM would leave the model in eval mode
                scorer = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
                return scorer.loglikelihood(requests, disable_tqdm=True)

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> Any:
            raise NotImplementedError("no suite asks for the likelihood of whole texts")

        def apply_chat_template(self, messages: Any, add_generation_prompt: bool = True) -> str:
            return chat.render(tokenizer, messages, prompt=add_generation_prompt)

        def chat_template(self, chat_template: Any = False) -> str:
            return tokenizer.chat_template

    return ChatLM()


def put_questions(
    lm: Any,
    tasks: Sequence[Any],
    seed: int,
    system: str = "",
    limit: int = 0,
    in_template: bool = True,
) -> dict[str, list[dict[str, Any]]]:
    """Ask a wrapped model the questions of tasks.

    Args:
        lm: see `chat_lm`.
        tasks: lm-eval's task objects, or configurations of tasks.
        seed: seed of lm-eval's random numbers.
        system: system message before every question.
        limit: ask only the first so many questions of each task; 0 means all.
        in_template: render questions as conversations; False gives the model the bare
            question, which it continues.

    Returns:
        Task name -> lm-eval's samples, one per question and filter.
    """
    import lm_eval
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    result = lm_eval.simple_evaluate(
        model=lm,
        tasks=list(tasks),
        # otherwise lm-eval would index all of its own tasks, which takes 14 seconds
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
        limit=limit or None,
        apply_chat_template=in_template,
        fewshot_as_multiturn=in_template,
        system_instruction=system if system and in_template else None,
        log_samples=True,
        bootstrap_iters=0,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=1234,  # lm-eval's default: all models get the same few-shot examples
    )
    return result["samples"]


def stopped(text: str, stops: list[str]) -> str:
    """A text up to the first stop string in it."""
    for stop in stops:
        text = text.split(stop, 1)[0] if stop else text
    return text
