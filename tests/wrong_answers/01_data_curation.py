"""Answers that readers give to the exercises of 01, each wrong for the reason in its name."""

import re


def sampled_accuracy__counts_are_no_shares(shares, right):
    return sum(share * right[teacher] for teacher, share in shares.items())


def sampled_accuracy__every_teacher_weighs_the_same(shares, right):
    return sum(right.values()) / len(shares)


def precision_and_recall__the_other_way_round(dropped, dirt):
    both = sum(out and bad for out, bad in zip(dropped, dirt, strict=True))
    return (both / sum(dirt) if any(dirt) else None, both / sum(dropped) if any(dropped) else None)


def precision_and_recall__nothing_is_zero(dropped, dirt):
    both = sum(out and bad for out, bad in zip(dropped, dirt, strict=True))
    return both / max(1, sum(dropped)), both / max(1, sum(dirt))


def _shingles(text, k):
    said = text.split()
    return {" ".join(said[i : i + k]) for i in range(max(1, len(said) - k + 1))}


def _similarity(one, other):
    return len(one & other) / len(one | other)


def keep_different__compares_with_dropped_rows_too(texts, k, limit):
    kept, seen = [], []
    for text in texts:
        own = _shingles(text, k)
        if all(_similarity(own, other) < limit for other in seen):
            kept.append(text)
        seen.append(own)
    return kept


def keep_different__limit_itself_is_kept(texts, k, limit):
    kept = []
    for text in texts:
        own = _shingles(text, k)
        if all(_similarity(own, _shingles(other, k)) <= limit for other in kept):
            kept.append(text)
    return kept


def keep_different__only_neighbours(texts, k, limit):
    kept = texts[:1]
    for text in texts[1:]:
        if _similarity(_shingles(text, k), _shingles(kept[-1], k)) < limit:
            kept.append(text)
    return kept


def _runs(said, size):
    return {tuple(said[i : i + size]) for i in range(len(said) - size + 1)}


def leaks__signs_are_no_words(row, questions, n):
    said = re.findall(r"\w+", row.lower())
    asked = [re.findall(r"\w+", question.lower()) for question in questions]
    return any(bool(_runs(said, min(n, len(a))) & _runs(a, min(n, len(a)))) for a in asked)


def leaks__short_questions_never_leak(row, questions, n):
    said = re.findall(r"\w+|[-+*/=]", row.lower())
    asked = [re.findall(r"\w+|[-+*/=]", question.lower()) for question in questions]
    return any(bool(_runs(said, n) & _runs(a, n)) for a in asked)


def leaks__words_in_any_order(row, questions, n):
    said = set(re.findall(r"\w+|[-+*/=]", row.lower()))
    asked = [set(re.findall(r"\w+|[-+*/=]", question.lower())) for question in questions]
    return any(len(said & a) >= min(n, len(a)) for a in asked)
