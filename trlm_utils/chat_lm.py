"""A model as lm-eval asks it: chat template, the course's sampling, lm-eval's likelihoods."""

from __future__ import annotations

from typing import Any

from trlm_utils import answers, chat, generation
from trlm_utils.models import END


def chat_lm(
    model: Any,
    tokenizer: Any,
    batch_size: int,
    seed: int,
    *,
    max_new_tokens: int | None = None,
    thoughts: bool = True,
) -> Any:
    """Wrap a model for lm-eval (built here so that importing stays cheap).

    Args:
        batch_size: completions, or likelihoods, computed at once.
        seed: of the sampling.
        max_new_tokens: budget of every completion; None takes each task's own.
        thoughts: the tasks read thoughts themselves and get completions whole, with the
            end token where the model wrote it. Without, as lm-eval's own tasks need it,
            they get what follows the thought, up to the task's first stop text. (lm-eval
            stops inside the thought too, so that a blank line there would cut a reply.)
    """
    from lm_eval.api.model import LM

    class ChatLM(LM):
        """Generates and scores; ``drawn`` holds the samples by task and question number."""

        tokenizer_name = "trlm_utils"

        def __init__(self) -> None:
            super().__init__()
            self.drawn: dict[tuple[str, int], list[generation.Sample]] = {}

        def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
            how = requests[0].args[1]  # of a suite all requests are drawn alike
            found = generation.sample(
                model,
                tokenizer,
                [request.args[0] for request in requests],
                max_new_tokens=max_new_tokens or how["max_gen_toks"],
                temperature=how.get("temperature", 1.0) if how["do_sample"] else 0.0,
                top_p=how.get("top_p", 1.0),
                batch_size=batch_size,
                seed=seed,
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

            with generation.evaluating(model):  # HFLM would leave it so
                scorer = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
                return scorer.loglikelihood(requests, disable_tqdm=True)

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> Any:
            raise NotImplementedError("no suite asks for the likelihood of whole texts")

        def apply_chat_template(self, messages: Any, add_generation_prompt: bool = True) -> str:
            return chat.render(tokenizer, messages, prompt=add_generation_prompt)

        def chat_template(self, chat_template: Any = False) -> str:
            return tokenizer.chat_template

    return ChatLM()


def stopped(text: str, stops: list[str]) -> str:
    """A text up to the first of the stop texts in it."""
    for stop in stops:
        text = text.split(stop, 1)[0] if stop else text
    return text
