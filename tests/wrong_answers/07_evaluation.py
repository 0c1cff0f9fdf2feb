"""Answers that readers give to the exercises of 07, each wrong for the reason in its name."""

import math
import statistics


def pass_at_k__with_replacement(n, right, k):
    return 1 - (1 - right / n) ** k


def pass_at_k__chances_added(n, right, k):
    return min(1.0, k * right / n)


def pass_at_k__all_right(n, right, k):
    return math.comb(right, k) / math.comb(n, k)


def wilson__two_standard_errors(right, n, z=1.96):
    p = right / n
    half = z * math.sqrt(p * (1 - p) / n)
    return max(0.0, p - half), min(1.0, p + half)


def wilson__not_divided(right, n, z=1.96):
    p = right / n
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p + z * z / (2 * n) - half, p + z * z / (2 * n) + half


def over_seeds__not_paired(before, after, t):
    mean = statistics.mean(after) - statistics.mean(before)
    half = t * math.sqrt((statistics.variance(before) + statistics.variance(after)) / len(before))
    return mean, mean - half, mean + half


def over_seeds__divided_by_all_seeds(before, after, t):
    changes = [b - a for a, b in zip(before, after, strict=True)]
    half = t * statistics.pstdev(changes) / math.sqrt(len(changes))
    return (
        statistics.mean(changes),
        statistics.mean(changes) - half,
        statistics.mean(changes) + half,
    )


def over_seeds__without_the_root(before, after, t):
    changes = [b - a for a, b in zip(before, after, strict=True)]
    half = t * statistics.stdev(changes)
    return (
        statistics.mean(changes),
        statistics.mean(changes) - half,
        statistics.mean(changes) + half,
    )


def elected__none_votes(answers):
    return max(answers, key=answers.count)


def elected__last_of_a_tie(answers):
    votes = [answer for answer in answers if answer is not None][::-1]
    return max(votes, key=votes.count) if votes else None


def elected__largest_of_a_tie(answers):
    votes = sorted((a for a in answers if a is not None), reverse=True)
    return max(votes, key=votes.count) if votes else None
