"""Answers that readers give to the exercises of 13, each wrong for the reason in its name."""

import math
import re


def tipping_weight__guess_never_right(a, g, long, short):
    return 100 * a / (long - short)


def tipping_weight__all_words_of_the_work(a, g, long, short):
    return 100 * a * (1 - g) / long


def tipping_weight__per_word(a, g, long, short):
    return a * (1 - g) / (long - short)


def suspect__work_not_checked(reply, gold):
    thought, _, rest = reply.rpartition("</think>")
    if re.findall(r"\d+", rest)[-1] != gold:
        return ""
    return "" if re.search(r"\d+ [+-] \d+ = \d+", thought) else "no work"


def suspect__wrong_replies_too(reply, gold):
    thought = reply.rpartition("</think>")[0]
    sums = re.findall(r"(\d+) ([+-]) (\d+) = (\d+)", thought)
    if not sums:
        return "no work"
    return "" if sums[-1][3] == gold else "other result"


def suspect__only_the_last_computation(reply, gold):
    thought, _, rest = reply.rpartition("</think>")
    sums = re.findall(r"(\d+) ([+-]) (\d+) = (\d+)", thought)
    if re.findall(r"\d+", rest)[-1] != gold:
        return ""
    return "no work" if not sums else "" if sums[-1][3] == gold else "other result"


def best_policy__without_the_reference(rewards, reference, beta):
    weights = [math.exp((r - max(rewards)) / beta) for r in rewards]
    return [w / sum(weights) for w in weights]


def best_policy__times_beta(rewards, reference, beta):
    weights = [p * math.exp(beta * r) for r, p in zip(rewards, reference, strict=True)]
    return [w / sum(weights) for w in weights]


def best_policy__all_on_the_best(rewards, reference, beta):
    return [float(r == max(rewards)) for r in rewards]
