"""Answers that readers give to the exercises of 11, each wrong for the reason in its name."""

import math


def pair_loss__sign_of_the_gradient(chosen, rejected):
    difference = chosen - rejected
    loss = max(0.0, -difference) + math.log1p(math.exp(-abs(difference)))
    missing = 1 - 1 / (1 + math.exp(-difference)) if difference > -700 else 1.0
    return loss, missing, -missing


def pair_loss__chance_for_gradient(chosen, rejected):
    difference = chosen - rejected
    loss = max(0.0, -difference) + math.log1p(math.exp(-abs(difference)))
    chance = 1 / (1 + math.exp(-difference)) if difference > -700 else 0.0
    return loss, -chance, chance


def in_right_order__ties_lose(right, wrong):
    return sum(a > b for a in right for b in wrong) / (len(right) * len(wrong))


def in_right_order__side_by_side(right, wrong):
    pairs = list(zip(right, wrong, strict=False))
    return sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs)


def in_right_order__means(right, wrong):
    return float(sum(right) / len(right) > sum(wrong) / len(wrong))


def calibration_error__not_weighted(chances, right, bins):
    found = {}
    for c, t in zip(chances, right, strict=True):
        found.setdefault(min(bins - 1, int(c * bins)), []).append(c - t)
    return sum(abs(sum(d) / len(d)) for d in found.values()) / len(found)


def calibration_error__one_by_one(chances, right, bins):
    return sum(abs(c - t) for c, t in zip(chances, right, strict=True)) / len(chances)


def calibration_error__without_bins(chances, right, bins):
    return abs(sum(chances) - sum(right)) / len(chances)
