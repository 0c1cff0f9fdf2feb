"""Answers that readers give to the exercises of 14, each wrong for the reason in its name."""

import math


def sharpened__not_normalised(probabilities, temperature):
    return [p ** (1 / temperature) for p in probabilities]


def sharpened__temperature_upside_down(probabilities, temperature):
    raised = [p**temperature for p in probabilities]
    return [value / sum(raised) for value in raised]


def reverse_kl__forward(student, teacher):
    return sum(q * math.log(q / p) if p else 0.0 for p, q in zip(student, teacher, strict=True))


def reverse_kl__sign(student, teacher):
    return sum(p * math.log(q / p) for p, q in zip(student, teacher, strict=True) if p)


def expected_push__weight_only(chances, weights):
    return [p * w for p, w in zip(chances, weights, strict=True)]


def expected_push__plain_mean(chances, weights):
    mean = sum(weights) / len(weights)
    return [p * (w - mean) for p, w in zip(chances, weights, strict=True)]
