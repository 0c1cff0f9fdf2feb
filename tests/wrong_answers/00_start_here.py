"""Answers that readers give to the exercises of 00, each wrong for the reason in its name."""

import math


def cross_entropy__largest_score_taken_for_certain(scores, targets):
    losses = [max(row) - row[target] for row, target in zip(scores, targets, strict=True)]
    return sum(losses) / len(losses)


def cross_entropy__sum_for_mean(scores, targets):
    total = 0.0
    for row, target in zip(scores, targets, strict=True):
        largest = max(row)
        whole = sum(math.exp(score - largest) for score in row)
        total += math.log(whole) + largest - row[target]
    return total


def cross_entropy__largest_not_added_back(scores, targets):
    losses = []
    for row, target in zip(scores, targets, strict=True):
        largest = max(row)
        losses.append(math.log(sum(math.exp(s - largest) for s in row)) - row[target])
    return sum(losses) / len(losses)


def cross_entropy__base_two(scores, targets):
    losses = []
    for row, target in zip(scores, targets, strict=True):
        largest = max(row)
        whole = sum(math.exp(s - largest) for s in row)
        losses.append((math.log(whole) + largest - row[target]) / math.log(2))
    return sum(losses) / len(losses)


def counted(words):
    counts = {}
    for word in words:
        for i in range(len(word) - 1):
            pair = (word[i], word[i + 1])
            counts[pair] = counts.get(pair, 0) + 1
    return counts


def merged(words, best, step=1):
    out = []
    for word in words:
        tokens, i = [], 0
        while i < len(word):
            if tuple(word[i : i + 2]) == best:
                tokens.append(word[i] + word[i + 1])
                i += step
            else:
                tokens.append(word[i])
                i += 1
        out.append(tokens)
    return out


def merge_once__overlapping(words):
    counts = counted(words)
    best = max(counts, key=counts.get)
    return best, merged(words, best, step=1)


def merge_once__last_of_equals(words):
    counts = counted(words)
    best = [pair for pair in counts if counts[pair] == max(counts.values())][-1]
    return best, merged(words, best, step=2)


def merge_once__first_place_of_each_word_only(words):
    counts = counted(words)
    best, out = max(counts, key=counts.get), []
    for word in words:
        at = next((i for i in range(len(word) - 1) if tuple(word[i : i + 2]) == best), None)
        joined = word if at is None else [*word[:at], word[at] + word[at + 1], *word[at + 2 :]]
        out.append(joined)
    return best, out


def greedy__end_token_kept(next_scores, prompt, end, budget):
    ids = list(prompt)
    while len(ids) < len(prompt) + budget:
        scores = next_scores(ids)
        ids.append(scores.index(max(scores)))
        if ids[-1] == end:
            break
    return ids[len(prompt) :]


def greedy__prompt_returned(next_scores, prompt, end, budget):
    ids = list(prompt)
    for _ in range(budget):
        scores = next_scores(ids)
        if (best := scores.index(max(scores))) == end:
            break
        ids.append(best)
    return ids


def greedy__sees_its_last_token_only(next_scores, prompt, end, budget):
    new, last = [], prompt[-1]
    for _ in range(budget):
        scores = next_scores([last])
        if (last := scores.index(max(scores))) == end:
            break
        new.append(last)
    return new


def greedy__budget_counts_the_prompt(next_scores, prompt, end, budget):
    ids = list(prompt)
    while len(ids) < budget:
        scores = next_scores(ids)
        if (best := scores.index(max(scores))) == end:
            break
        ids.append(best)
    return ids[len(prompt) :]
