"""Evaluate a model through lm-eval with the course's own offline tasks.

lm-eval asks the questions, repeats them, filters and aggregates. The adapter `chat_lm`
answers with the same sampling function as the rest of the course. `tasks/scoring.py`
grades with the course's answer checker. All bands are in one data file, so an evaluation
takes two calls of lm-eval (greedy and sampled), whatever the number of bands.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from trlm_utils import answers, chat, generation, nanoworld, progress, samplers
from trlm_utils.evaluation.chat_lm import TASKS, chat_lm, put_questions
from trlm_utils.tokenization import END

DECODINGS = ("greedy", "sampled")
FORMS = ("chat", "plain")  # through the chat template; the question alone, to be continued
RAW = ("id", "band", "form", "decoding", "prompt", "gold", "accuracy")  # of an example reply
Record = dict[str, Any]


def evaluate(
    model: Any,
    tokenizer: Any,
    questions: Path,
    *,
    max_new_tokens: int = 160,
    samples: int = 8,
    plain_samples: int = 0,
    batch_size: int = 256,
    seed: int = 0,
    system: str = "",
    engine: str = "course",
    decodings: Sequence[str] = DECODINGS,
) -> list[Record]:
    """Answer every question once greedily, and several times at temperature 1.

    In form "chat" the question is asked through the chat template. In form "plain" the model
    continues the question, which is how a base model was trained.

    Args:
        questions: path of JSON lines with id, band, question, answer and, where the steps of
            the solution are known, ``worked`` (`nanoworld.Problem.row`).
        max_new_tokens: token budget of a completion. One that does not end within it is
            truncated, and wrong if its thought is not closed.
        samples: completions per question in sampled decoding.
        plain_samples: the same in form "plain"; 0 leaves this form out.
        batch_size: completions generated at once.
        seed: seed of the sampling.
        system: system message before every question (form "chat").
        engine: what draws completions, see `samplers.named`.
        decodings: which of greedy and sampled decoding to do.

    Returns:
        One record per question, form and decoding: id, band, form, decoding, accuracy,
        checked (right, and every step of the solution, too; None where the steps are not
        known), truncated, well_formed (means over the samples, in [0, 1]; well_formed is None
        in form "plain"), tokens (mean response length, end token included), texts, gold, and
        prompt, which `without_prompts` removes.
    """
    number = {"chat": samples, "plain": plain_samples}
    wanted = [
        (form, decoding, number[form] if decoding == "sampled" else 1)
        for form in FORMS
        for decoding in decodings
        if number[form]
    ]
    records = []
    with progress.task("decodings", sum(repeats for *_, repeats in wanted)) as asking:
        for form, decoding, repeats in wanted:
            lm = chat_lm(model, tokenizer, batch_size, seed, engine=engine)
            with tempfile.TemporaryDirectory() as folder, asking.part(repeats):
                task = Path(folder) / "task.yaml"
                settings = task_settings(decoding, questions, max_new_tokens, repeats)
                settings["dataset_kwargs"]["cache_dir"] = folder
                task.write_text(yaml.safe_dump(settings))
                asked = put_questions(lm, [str(task)], seed, system, in_template=form == "chat")
            for found in asked[f"think_{decoding}"]:
                drawn = lm.drawn[f"think_{decoding}", found["doc_id"]]
                records.append(_record(found, drawn, form, decoding))
    return records


def _record(found: Record, drawn: list[generation.Sample], form: str, decoding: str) -> Record:
    """What `evaluate` keeps of one question, from lm-eval's sample and the completions."""
    doc, texts = found["doc"], [sample.text for sample in drawn]
    return {
        "id": doc["id"],
        "band": doc["band"],
        "form": form,
        "decoding": decoding,
        "accuracy": found["accuracy"],
        "checked": checked(texts, doc["answer"], doc.get("worked")),
        "truncated": found["truncated"],
        "well_formed": found["well_formed"] if form == "chat" else None,
        "tokens": sum(sample.tokens for sample in drawn) / len(drawn),
        "texts": texts,
        "prompt": found["arguments"][0][0],
        "gold": doc["answer"],
    }


def checked(texts: Sequence[str], gold: str, worked: Sequence[str] | None) -> float | None:
    """Share of completions with the right answer and every step right; a guess has no steps.

    Args:
        worked: the right steps (`nanoworld.work_right`); None where they are not known.
    """
    if not worked:
        return None
    right = 0
    for text in texts:
        thought = answers.parse(text).thought
        stated = nanoworld.work_right(worked, text if thought is None else thought)
        right += stated and bool(answers.grade(text, gold))
    return right / len(texts)


def raw_samples(records: Sequence[Record], number: int = 5) -> list[Record]:
    """A few example replies of every band and decoding, to the same questions for each model.

    Returns:
        Rows with id, band, form, decoding, prompt (as rendered), reply, gold, accuracy.
    """
    rows = []
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        key = (record["band"], record["form"], record["decoding"])
        groups.setdefault(key, []).append(record)
    for group in groups.values():
        ordered = sorted(group, key=lambda r: r["id"])
        few = min(number, len(ordered))
        for record in (ordered[i * len(ordered) // few] for i in range(few)):
            kept = {name: record[name] for name in RAW}
            rows.append(kept | {"reply": record["texts"][0]})
    return rows


def without_prompts(records: Sequence[Record]) -> list[Record]:
    """Records without their long prompts, as they are saved."""
    return [{k: v for k, v in record.items() if k != "prompt"} for record in records]


def count_right(
    model: Any,
    tokenizer: Any,
    questions: Sequence[Record],
    *,
    samples: int = 32,
    max_new_tokens: int = 160,
    batch_size: int = 256,
    seed: int = 0,
    system: str = "",
    engine: str = "course",
) -> list[Record]:
    """Number of correct ones among ``samples`` completions at temperature 1, per question.

    Used for pass@k. Arguments as in `evaluate`, but ``questions`` are rows.

    Returns:
        One record per question: id, band, samples, right, and checked, the number with every
        step right, too (None where the steps are not known).
    """
    prompts = [
        chat.render(tokenizer, chat.to_prompt(row["question"], system), prompt=True)
        for row in questions
    ]
    drawn = generation.sample(
        model,
        tokenizer,
        [prompt for prompt in prompts for _ in range(samples)],
        max_new_tokens=max_new_tokens,
        temperature=1.0,
        batch_size=batch_size,
        seed=seed,
        draw=samplers.named(engine),
    )
    records = []
    for i, row in enumerate(questions):
        texts = [sample.text for sample in drawn[i * samples : (i + 1) * samples]]
        right = sum(bool(answers.grade(text, row["answer"])) for text in texts)
        share = checked(texts, row["answer"], row.get("worked"))
        record = {"id": row["id"], "band": row["band"], "samples": samples, "right": right}
        records.append(record | {"checked": None if share is None else round(share * samples)})
    return records


def task_settings(
    decoding: str, questions: Path, max_new_tokens: int, repeats: int
) -> dict[str, Any]:
    """Configuration of an lm-eval task: the course's task file with this run's data and budget."""
    drawing: dict[str, Any] = {"until": [END], "max_gen_toks": max_new_tokens}
    drawing["do_sample"] = decoding == "sampled"
    if decoding == "sampled":
        drawing["temperature"] = 1.0
    take = {"name": "all", "filter": [{"function": "take_first_k", "k": repeats}]}
    return {
        "include": str(TASKS / f"think_{decoding}.yaml"),
        "dataset_kwargs": {"data_files": {"test": str(Path(questions).resolve())}},
        "generation_kwargs": drawing,
        "repeats": repeats,
        "filter_list": [take],
    }
