"""Answers that readers give to the exercises of 03, each wrong for the reason in its name."""

import math


def loss_shares__of_rows(rows):
    names = [teacher for teacher, _ in rows]
    return {name: names.count(name) / len(names) for name in names}


def loss_shares__of_all_tokens(rows):
    counts = {}
    for teacher, mask in rows:
        counts[teacher] = counts.get(teacher, 0) + len(mask)
    total = sum(counts.values())
    return {teacher: count / total for teacher, count in counts.items()}


def loss_shares__last_row_of_a_teacher(rows):
    counts = {teacher: sum(mask) for teacher, mask in rows}
    return {teacher: count / sum(counts.values()) for teacher, count in counts.items()}


def loss_shares__counts(rows):
    counts = {}
    for teacher, mask in rows:
        counts[teacher] = counts.get(teacher, 0) + sum(mask)
    return counts


def drawn(weights, u):
    total, so_far = sum(weights), 0.0
    for token, weight in enumerate(weights):
        so_far += weight / total
        if so_far > u:
            return token
    return len(weights) - 1


def draw_token__ignores_the_temperature(scores, temperature, u):
    return drawn([math.exp(score - max(scores)) for score in scores], u)


def draw_token__multiplies_by_the_temperature(scores, temperature, u):
    if temperature == 0:
        return scores.index(max(scores))
    return drawn([math.exp((score - max(scores)) * temperature) for score in scores], u)


def draw_token__probabilities_divided_instead_of_scores(scores, temperature, u):
    if temperature == 0:
        return scores.index(max(scores))
    return drawn([math.exp(score - max(scores)) / temperature for score in scores], u)


def draw_token__always_greedy(scores, temperature, u):
    return scores.index(max(scores))


def forced__beginning_lost_from_the_reply(sample, prompts, beginnings):
    return sample([p + b for p, b in zip(prompts, beginnings, strict=True)])


def forced__beginning_not_given_to_the_model(sample, prompts, beginnings):
    return [b + more for b, more in zip(beginnings, sample(prompts), strict=True)]


def forced__prompt_in_the_reply(sample, prompts, beginnings):
    texts = [p + b for p, b in zip(prompts, beginnings, strict=True)]
    return [text + more for text, more in zip(texts, sample(texts), strict=True)]


def forced__one_call_for_each_text(sample, prompts, beginnings):
    pairs = zip(prompts, beginnings, strict=True)
    return [b + sample([p + b])[0] for p, b in pairs]
