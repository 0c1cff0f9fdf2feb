"""Answers that readers give to the exercises of 05, each wrong for the reason in its name."""

import re


def overlong__not_bounded(tokens, longest, margin):
    return -max(0.0, (tokens - (longest - margin)) / margin)


def overlong__pays_for_being_short(tokens, longest, margin):
    return -min(1.0, (tokens - (longest - margin)) / margin)


def overlong__all_at_once(tokens, longest, margin):
    return -1.0 if tokens >= longest else 0.0


def graded_form__per_tag(text):
    tags = ("<think>", "</think>", "<answer>", "</answer>")
    return sum(tag in text for tag in tags) / 4


def graded_form__once_in_any_order(text):
    thought = text.count("<think>") == text.count("</think>") == 1
    answer = text.count("<answer>") == text.count("</answer>") == 1
    return 0.5 * thought + 0.5 * (thought and answer)


def graded_form__one_line_only(text):
    thought = re.search(r"<think>.*\w.*</think>", text) and text.count("<think>") == 1
    answer = re.search(r"</think>.*<answer>.*\w.*</answer>", text)
    return 0.5 * bool(thought) + 0.5 * bool(thought and answer and text.count("<answer>") == 1)


def tagged_accuracy__last_number(text, gold):
    found = re.findall(r"<answer>(.*?)</answer>", text)
    numbers = re.findall(r"-?\d+", found[-1]) if found else []
    return float(bool(numbers) and numbers[-1] == gold)


def tagged_accuracy__holds_the_text(text, gold):
    found = re.findall(r"<answer>(.*?)</answer>", text)
    return float(len(found) == 1 and gold in found[0])


def tagged_accuracy__first_number(text, gold):
    found = re.search(r"<answer>\D*(\d+)", text)
    return float(bool(found) and found[1] == gold)


def relative_length__wrong_ones_too(lengths, right):
    width = max(lengths) - min(lengths)
    return [0.5 - (length - min(lengths)) / width if width else 0.0 for length in lengths]


def relative_length__wrong_ones_get_nothing(lengths, right):
    width = max(lengths) - min(lengths)
    shares = [0.5 - (length - min(lengths)) / width if width else 0.0 for length in lengths]
    return [share if ok else 0.0 for share, ok in zip(shares, right, strict=True)]


def relative_length__among_the_right_ones(lengths, right):
    own = [length for length, ok in zip(lengths, right, strict=True) if ok]
    width = max(own) - min(own) or 1
    shares = [0.5 - (length - min(own)) / width for length in lengths]
    return [share if ok else min(0.0, share) for share, ok in zip(shares, right, strict=True)]
