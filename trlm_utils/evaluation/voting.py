"""More samples instead of more training: self-consistency and best-of-N, from drawn samples.

Self-consistency takes the answer that most of k samples give (Wang et al. 2022, "Self-
Consistency Improves Chain of Thought Reasoning"). Best-of-N takes the best of k samples by a
judge; with a perfect judge, the checker, that is pass@k. Both pay with tokens at inference what
training pays once, so they are compared at equal tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from trlm_utils import answers, stats
from trlm_utils.answers import elected
from trlm_utils.evaluation.held_out import Record
from trlm_utils.evaluation.ladder import by_group


def curves(records: Sequence[Record], stage: str) -> list[Record]:
    """Accuracy by voting and by best-of-k, for k = 1, 2, 4, ... of the samples that were drawn.

    The samples of a question are cut into groups of k; a question's score is the mean over its
    groups. Sampled answers in form "chat" count.

    Args:
        records: see `held_out.evaluate`.
        stage: name for the rows.

    Returns:
        Rows with stage, band, method ("vote" or "best"), k, tokens (per question, all k
        samples), accuracy, low, high, n.
    """
    rows = []
    for (band, form, decoding), group in by_group(records).items():
        samples = min(len(record["texts"]) for record in group)
        if (form, decoding) != ("chat", "sampled") or samples < 2:
            continue
        tokens = sum(record["tokens"] for record in group) / len(group)
        graded = [_graded(record, samples) for record in group]
        k = 1
        while k <= samples:
            scores: dict[str, list[float]] = {"vote": [], "best": []}
            for record, right in zip(group, graded, strict=True):
                parts = [range(i, i + k) for i in range(0, samples - k + 1, k)]
                won = [elected([record["texts"][i] for i in part]) for part in parts]
                voted = [w is not None and right[record["texts"].index(w)] for w in won]
                best = [any(right[i] for i in part) for part in parts]
                scores["vote"].append(sum(voted) / len(parts))
                scores["best"].append(sum(best) / len(parts))
            for method, found in scores.items():
                mean, low, high = stats.mean_interval(found, samples // k)
                row = {"stage": stage, "band": band, "method": method, "k": k}
                row |= {"tokens": k * tokens, "accuracy": mean, "low": low, "high": high}
                rows.append(row | {"n": len(group)})
            k *= 2
    return rows


def _graded(record: Record, samples: int) -> list[bool]:
    return [bool(answers.grade(text, record["gold"])) for text in record["texts"][:samples]]
