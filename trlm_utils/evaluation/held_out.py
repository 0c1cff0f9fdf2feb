"""Evaluate a model through lm-eval with the course's own offline tasks.

lm-eval asks the questions, repeats them, filters and aggregates. The adapter `chat_lm`
answers with the same sampling function as the rest of the course. `tasks/scoring.py`
grades with the course's answer checker. All bands are in one data file, so an evaluation
takes two calls of lm-eval (greedy and sampled), whatever the number of bands.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from trlm_utils import answers, chat, generation, progress, stats
from trlm_utils.evaluation.chat_lm import TASKS, chat_lm, put_questions
from trlm_utils.tokenization import END

DECODINGS = ("greedy", "sampled")
BANDS_BY_LENGTH = ("in_distribution", "longer", "longest")  # differ only in the number of steps
Record = dict[str, Any]


def evaluate(
    model: Any,
    tokenizer: Any,
    questions: Path,
    *,
    max_new_tokens: int = 160,
    samples: int = 8,
    batch_size: int = 256,
    seed: int = 0,
    system: str = "",
    decodings: Sequence[str] = DECODINGS,
) -> list[Record]:
    """Answer every question once greedily, and ``samples`` times at temperature 1.

    Args:
        questions: path of JSON lines with id, band, question, answer.
        max_new_tokens: token budget of a completion. One that does not end within it is
            truncated, and wrong if its thought is not closed.
        samples: completions per question in sampled decoding.
        batch_size: completions generated at once.
        seed: seed of the sampling.
        system: system message before every question.
        decodings: which of greedy and sampled decoding to do.

    Returns:
        One record per question and decoding: id, band, decoding, accuracy, truncated,
        well_formed (means over the samples, in [0, 1]), tokens (mean response length, end
        token included), texts, gold, and prompt, which `without_prompts` removes.
    """
    records = []
    repeats = {name: samples if name == "sampled" else 1 for name in decodings}
    with progress.task("decodings", sum(repeats.values())) as asking:
        for decoding in decodings:
            lm = chat_lm(model, tokenizer, batch_size, seed)
            with tempfile.TemporaryDirectory() as folder, asking.part(repeats[decoding]):
                task = Path(folder) / "task.yaml"
                settings = task_settings(decoding, questions, max_new_tokens, repeats[decoding])
                settings["dataset_kwargs"]["cache_dir"] = folder
                task.write_text(yaml.safe_dump(settings))
                samples_by_task = put_questions(lm, [str(task)], seed, system)
            for found in samples_by_task[f"think_{decoding}"]:
                drawn = lm.drawn[f"think_{decoding}", found["doc_id"]]
                records.append(
                    {
                        "id": found["doc"]["id"],
                        "band": found["doc"]["band"],
                        "decoding": decoding,
                        **{m: found[m] for m in ("accuracy", "truncated", "well_formed")},
                        "tokens": sum(s.tokens for s in drawn) / repeats[decoding],
                        "texts": [s.text for s in drawn],
                        "prompt": found["arguments"][0][0],
                        "gold": found["doc"]["answer"],
                    }
                )
    return records


def raw_samples(records: Sequence[Record], number: int = 5) -> list[Record]:
    """A few example replies of every band and decoding, to the same questions for each model.

    Returns:
        Rows with id, band, decoding, prompt (as rendered), reply, gold, accuracy.
    """
    rows = []
    for group in _by_group(records).values():
        ordered = sorted(group, key=lambda r: r["id"])
        few = min(number, len(ordered))
        for record in (ordered[i * len(ordered) // few] for i in range(few)):
            kept = {k: record[k] for k in ("id", "band", "decoding", "prompt", "gold", "accuracy")}
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
) -> list[Record]:
    """Number of correct ones among ``samples`` completions at temperature 1, per question.

    Used for pass@k. Arguments as in `evaluate`, but ``questions`` are rows.

    Returns:
        One record per question: id, band, samples, right.
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
    )
    records = []
    for i, row in enumerate(questions):
        group = drawn[i * samples : (i + 1) * samples]
        right = sum(bool(answers.grade(s.text, row["answer"])) for s in group)
        records.append({"id": row["id"], "band": row["band"], "samples": samples, "right": right})
    return records


def pass_curve(counts: Sequence[Record], stage: str) -> list[Record]:
    """pass@k for k = 1, 2, 4, ... samples, per band, with 95 % intervals over questions.

    Args:
        counts: see `count_right`.

    Returns:
        Rows with stage, band, k, pass_at_k, low, high, n (questions).
    """
    rows = []
    for band in dict.fromkeys(record["band"] for record in counts):
        group = [record for record in counts if record["band"] == band]
        k = 1
        while k <= group[0]["samples"]:
            scores = [stats.pass_at_k(r["samples"], r["right"], k) for r in group]
            mean, low, high = stats.mean_interval(scores, 1)
            row = {"stage": stage, "band": band, "k": k, "pass_at_k": mean}
            rows.append(row | {"low": low, "high": high, "n": len(group)})
            k *= 2
    return rows


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


def _by_group(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record["band"], record["decoding"]].append(record)
    bands = list(dict.fromkeys(record["band"] for record in records))
    return dict(sorted(groups.items(), key=lambda g: (bands.index(g[0][0]), g[0][1])))


def ladder_rows(records: Sequence[Record], stage: str, seed: int) -> list[Record]:
    """A stage's rows of the ladder, the table of accuracies of all stages.

    One row per band and decoding, with a 95 % interval. For decoding "likelihood" (multiple
    choice) truncated, well_formed and tokens are None, because nothing is generated.
    """
    rows = []
    for (band, decoding), group in _by_group(records).items():
        samples = max(len(r["texts"]) for r in group)
        mean, low, high = stats.mean_interval([r["accuracy"] for r in group], samples)
        row = {"stage": stage, "seed": seed, "band": band, "decoding": decoding}
        row |= {"accuracy": mean, "low": low, "high": high, "n": len(group)}
        row["standard_error"] = stats.standard_error([r["accuracy"] for r in group])
        for name in ("truncated", "well_formed", "tokens"):
            written = [r[name] for r in group if r[name] is not None]  # None: multiple choice
            row[name] = sum(written) / len(written) if written else None
        rows.append(row)
    return rows


def by_steps(
    records: Sequence[Record], questions: Sequence[Record], stage: str, seed: int
) -> list[Record]:
    """Greedy accuracy by number of steps, over the bands that differ only in this number.

    Args:
        records: see `evaluate`.
        questions: rows with id and, if known, difficulty (number of steps of a NanoWorld
            problem). Questions without difficulty are left out.

    Returns:
        Rows with stage, seed, steps, accuracy, low, high, n; empty without difficulties.
    """
    steps = {row["id"]: row.get("difficulty") for row in questions}
    groups: dict[int, list[float]] = defaultdict(list)
    for record in records:
        known = steps.get(record["id"])
        if known and record["decoding"] == "greedy" and record["band"] in BANDS_BY_LENGTH:
            groups[known].append(record["accuracy"])
    rows = []
    for number, scores in sorted(groups.items()):
        mean, low, high = stats.mean_interval(scores, 1)
        row = {"stage": stage, "seed": seed, "steps": number, "accuracy": mean}
        rows.append(row | {"low": low, "high": high, "n": len(scores)})
    return rows


def compare(
    before: Sequence[Record], after: Sequence[Record], names: tuple[str, str]
) -> list[Record]:
    """Paired differences from one stage to another, per band and decoding.

    Args:
        before, after: records of both stages, see `evaluate`.
        names: names of both stages.

    Raises:
        ValueError: when the two stages did not get the same questions.
    """
    rows = []
    old, new = _by_group(before), _by_group(after)
    if old.keys() != new.keys():
        raise ValueError(f"{names} were evaluated on different bands")
    for key, group in old.items():
        left = {r["id"]: r["accuracy"] for r in group}
        right = {r["id"]: r["accuracy"] for r in new[key]}
        if left.keys() != right.keys():
            raise ValueError(f"{names} were asked different questions in {key[0]}")
        difference, low, high = stats.paired_difference(
            list(left.values()), [right[i] for i in left]
        )
        rows.append(
            {"from": names[0], "to": names[1], "band": key[0], "decoding": key[1]}
            | {"difference": difference, "low": low, "high": high}
        )
    return rows
