"""Answers that readers give to the exercises of 08, each wrong for the reason in its name."""

import math


def probabilities_at__multiplied(logits, temperature):
    top = max(logits)
    raised = [math.exp(max(-700, (logit - top) * temperature)) for logit in logits]
    return [value / sum(raised) for value in raised]


def probabilities_at__not_normalised(logits, temperature):
    return [math.exp((logit - max(logits)) / temperature) for logit in logits]


def nucleus__in_vocabulary_order(probabilities, top_p):
    kept, reached = [], 0.0
    for i, p in enumerate(probabilities):
        kept.append(i)
        reached += p
        if reached >= top_p:
            break
    return kept


def nucleus__stops_before_it_is_reached(probabilities, top_p):
    kept, reached = [], 0.0
    for i in sorted(range(len(probabilities)), key=lambda i: -probabilities[i]):
        if reached + probabilities[i] > top_p:
            break
        kept.append(i)
        reached += probabilities[i]
    return kept


def parts__first_tag(reply):
    thought, _, answer = reply.partition("</think>")
    return [thought.replace("<think>", "").strip(), answer.strip()]


def parts__unclosed_is_an_answer(reply):
    thought, _, answer = reply.rpartition("</think>")
    return [thought.replace("<think>", "").strip(), answer.replace("<think>", "").strip()]
