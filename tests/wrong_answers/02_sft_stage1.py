"""Answers that readers give to the exercises of 02, each wrong for the reason in its name."""


def reply_mask__counts_the_header(tokens):
    mask, inside = [], False
    for t, token in enumerate(tokens):
        inside = inside or tokens[t : t + 2] == ["<|im_start|>", "assistant"]
        mask.append(int(inside))
        inside = inside and token != "<|im_end|>"
    return mask


def reply_mask__leaves_the_end_token_out(tokens):
    mask, inside = [], False
    for t, token in enumerate(tokens):
        inside = inside and token != "<|im_end|>"
        inside = inside or (t >= 3 and tokens[t - 3 : t] == ["<|im_start|>", "assistant", "⏎"])
        mask.append(int(inside))
    return mask


def reply_mask__last_reply_only(tokens):
    mask = [0] * len(tokens)
    if "assistant" in tokens:
        start = max(t for t, token in enumerate(tokens) if token == "assistant") + 2
        end = max(t for t, token in enumerate(tokens) if token == "<|im_end|>")
        mask[start : end + 1] = [1] * (end + 1 - start)
    return mask


def reply_mask__every_word_assistant(tokens):
    mask, inside = [], False
    for t, token in enumerate(tokens):
        inside = inside or (t >= 2 and tokens[t - 2 : t] == ["assistant", "⏎"])
        mask.append(int(inside))
        inside = inside and token != "<|im_end|>"
    return mask


def pad_rows__always_on_the_right(rows, pad_id, side):
    longest = max(map(len, rows))
    ids = [row + [pad_id] * (longest - len(row)) for row in rows]
    return ids, [[1] * len(row) + [0] * (longest - len(row)) for row in rows]


def pad_rows__sides_swapped(rows, pad_id, side):
    longest = max(map(len, rows))
    extra = [longest - len(row) for row in rows]
    if side == "right":
        ids = [[pad_id] * n + row for n, row in zip(extra, rows, strict=True)]
        return ids, [[0] * n + [1] * len(row) for n, row in zip(extra, rows, strict=True)]
    return pad_rows__always_on_the_right(rows, pad_id, side)


def pad_rows__mask_from_the_ids(rows, pad_id, side):
    longest = max(map(len, rows))
    extra = [[pad_id] * (longest - len(row)) for row in rows]
    ids = [e + r if side == "left" else r + e for e, r in zip(extra, rows, strict=True)]
    return ids, [[int(token != pad_id) for token in row] for row in ids]


def masked_loss__without_the_shift(logps, ids, mask):
    losses = [-logps[t][ids[t]] for t in range(len(ids)) if mask[t]]
    return sum(losses) / len(losses)


def masked_loss__divided_by_all(logps, ids, mask):
    losses = [-logps[t - 1][ids[t]] for t in range(1, len(ids)) if mask[t]]
    return sum(losses) / len(ids)


def masked_loss__first_token_from_the_last_place(logps, ids, mask):
    losses = [-logps[t - 1][ids[t]] for t in range(len(ids)) if mask[t]]
    return sum(losses) / len(losses)


def masked_loss__sign_forgotten(logps, ids, mask):
    losses = [logps[t - 1][ids[t]] for t in range(1, len(ids)) if mask[t]]
    return sum(losses) / len(losses)
