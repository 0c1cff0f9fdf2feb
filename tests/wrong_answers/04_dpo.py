"""Answers that readers give to the exercises of 04, each wrong for the reason in its name."""

import math


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def sigmoid_loss__no_reference(chosen, rejected, ref_chosen, ref_rejected, beta):
    probability = sigmoid(beta * (chosen - rejected))
    return -math.log(probability), beta * (probability - 1)


def sigmoid_loss__beta_left_out_of_the_slope(chosen, rejected, ref_chosen, ref_rejected, beta):
    probability = sigmoid(beta * (chosen - ref_chosen - rejected + ref_rejected))
    return -math.log(probability), probability - 1


def sigmoid_loss__rejected_added(chosen, rejected, ref_chosen, ref_rejected, beta):
    probability = sigmoid(beta * (chosen - ref_chosen + rejected - ref_rejected))
    return -math.log(probability), beta * (probability - 1)


def sigmoid_loss__slope_of_the_sigmoid(chosen, rejected, ref_chosen, ref_rejected, beta):
    p = sigmoid(beta * (chosen - ref_chosen - rejected + ref_rejected))
    return -math.log(p), -beta * p * (1 - p)


def logistic(x):
    return sigmoid(max(-700.0, x))


def apo_zero_loss__both_from_the_margin(chosen, rejected, ref_chosen, ref_rejected, beta):
    p = logistic(beta * (chosen - ref_chosen - rejected + ref_rejected))
    return 2 * (1 - p), -beta * p * (1 - p), beta * p * (1 - p)


def apo_zero_loss__slopes_of_one_sign(chosen, rejected, ref_chosen, ref_rejected, beta):
    high = logistic(beta * (chosen - ref_chosen))
    low = logistic(beta * (rejected - ref_rejected))
    return (1 - high) + low, -beta * high * (1 - high), -beta * low * (1 - low)


def apo_zero_loss__rejected_without_reference(chosen, rejected, ref_chosen, ref_rejected, beta):
    high, low = logistic(beta * (chosen - ref_chosen)), logistic(beta * rejected)
    return (1 - high) + low, -beta * high * (1 - high), beta * low * (1 - low)


def pair_metrics__ties_wrong(chosen, rejected):
    margins = [c - r for c, r in zip(chosen, rejected, strict=True)]
    return sum(margins) / len(margins), sum(m > 0 for m in margins) / len(margins)


def pair_metrics__ties_right(chosen, rejected):
    margins = [c - r for c, r in zip(chosen, rejected, strict=True)]
    return sum(margins) / len(margins), sum(m >= 0 for m in margins) / len(margins)


def pair_metrics__chosen_above_zero(chosen, rejected):
    margins = [c - r for c, r in zip(chosen, rejected, strict=True)]
    order = [1.0 if c > 0 else 0.5 if c == 0 else 0.0 for c in chosen]
    return sum(margins) / len(margins), sum(order) / len(order)


def pair_metrics__ties_left_out(chosen, rejected):
    margins = [c - r for c, r in zip(chosen, rejected, strict=True)]
    apart = [m for m in margins if m]
    order = sum(m > 0 for m in apart) / len(apart) if apart else 0.0
    return sum(margins) / len(margins), order


def normalised_loss__not_normalised(chosen, rejected, ref_chosen, ref_rejected, beta):
    margin = sum(chosen) - sum(ref_chosen) - sum(rejected) + sum(ref_rejected)
    return -math.log(sigmoid(beta * margin))


def normalised_loss__margin_by_both_lengths(chosen, rejected, ref_chosen, ref_rejected, beta):
    margin = sum(chosen) - sum(ref_chosen) - sum(rejected) + sum(ref_rejected)
    return -math.log(sigmoid(beta * margin / (len(chosen) + len(rejected))))


def normalised_loss__no_reference(chosen, rejected, ref_chosen, ref_rejected, beta):
    margin = sum(chosen) / len(chosen) - sum(rejected) / len(rejected)
    return -math.log(sigmoid(beta * margin))
