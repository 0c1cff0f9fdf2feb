"""Answers that readers give to the exercises of 06, each wrong for the reason in its name."""

import math


def rloo__itself_in_the_mean(rewards):
    mean = sum(rewards) / len(rewards)
    return [reward - mean for reward in rewards]


def rloo__others_divided_by_all(rewards):
    return [reward - (sum(rewards) - reward) / len(rewards) for reward in rewards]


def without_spread__all_right_only(pass_rates, size):
    return sum(p**size for p in pass_rates) / len(pass_rates)


def without_spread__at_the_mean_rate(pass_rates, size):
    p = sum(pass_rates) / len(pass_rates)
    return p**size + (1 - p) ** size


def aggregate__always_all_tokens(values, mask, how, width):
    pairs = [p for rows in zip(values, mask, strict=True) for p in zip(*rows, strict=True)]
    return sum(v * m for v, m in pairs) / sum(m for _, m in pairs)


def aggregate__padding_counts(values, mask, how, width):
    if how == "grpo":
        return sum(sum(row) / len(row) for row in values) / len(values)
    places = sum(map(len, values)) if how == "dapo" else len(values) * width
    return sum(map(sum, values)) / places


def aggregate__divided_by_the_longest(values, mask, how, width):
    sums = [
        sum(v * m for v, m in zip(*rows, strict=True)) for rows in zip(values, mask, strict=True)
    ]
    if how == "grpo":
        return sum(s / sum(m) for s, m in zip(sums, mask, strict=True)) / len(sums)
    return sum(sums) / (sum(map(sum, mask)) if how == "dapo" else len(sums) * len(mask[0]))


def passes__both_ends(ratios, advantage, low=0.2, high=0.2):
    return [int(1 - low <= ratio <= 1 + high and advantage != 0) for ratio in ratios]


def passes__sign_forgotten(ratios, advantage, low=0.2, high=0.2):
    return [int(ratio <= 1 + high and advantage != 0) for ratio in ratios]


def passes__one_epsilon(ratios, advantage, low=0.2, high=0.2):
    if advantage > 0:
        return [int(ratio <= 1 + low) for ratio in ratios]
    return [int(ratio >= 1 - low and advantage != 0) for ratio in ratios]


def expected_estimates__not_weighted(p, q):
    d = [math.log(b / a) for a, b in zip(p, q, strict=True) if a > 0]
    k3 = sum(math.exp(x) - 1 - x for x in d) / len(d)
    return -sum(d) / len(d), sum(x * x / 2 for x in d) / len(d), k3


def expected_estimates__d_turned_round(p, q):
    drawn = [(a, math.log(a / b)) for a, b in zip(p, q, strict=True) if a > 0]
    k3 = sum(a * (math.exp(d) - 1 - d) for a, d in drawn)
    return sum(a * -d for a, d in drawn), sum(a * d * d / 2 for a, d in drawn), k3


def expected_estimates__weighted_by_q(p, q):
    drawn = [(b, math.log(b / a)) for a, b in zip(p, q, strict=True) if a > 0]
    k3 = sum(b * (math.exp(d) - 1 - d) for b, d in drawn)
    return sum(b * -d for b, d in drawn), sum(b * d * d / 2 for b, d in drawn), k3
