"""Answers that readers give to the exercises of 12, each wrong for the reason in its name."""


def gae__value_of_the_same_token(rewards, values, gamma, lam):
    advantages, ahead = [], 0.0
    for reward, here in zip(reversed(rewards), reversed(values), strict=True):
        ahead = reward + gamma * here - here + gamma * lam * ahead
        advantages.append(ahead)
    return advantages[::-1]


def gae__lambda_forgotten(rewards, values, gamma, lam):
    advantages, ahead, value = [], 0.0, 0.0
    for reward, here in zip(reversed(rewards), reversed(values), strict=True):
        ahead = reward + gamma * value - here + gamma * ahead
        value = here
        advantages.append(ahead)
    return advantages[::-1]


def gae__back_to_front(rewards, values, gamma, lam):
    advantages, ahead, value = [], 0.0, 0.0
    for reward, here in zip(reversed(rewards), reversed(values), strict=True):
        ahead = reward + gamma * value - here + gamma * lam * ahead
        value = here
        advantages.append(ahead)
    return advantages


def _white(rows, mask, counted):
    mean = sum(counted) / len(counted)
    spread = (sum((v - mean) ** 2 for v in counted) / len(counted)) ** 0.5 or 1.0
    pairs = [zip(row, keep, strict=True) for row, keep in zip(rows, mask, strict=True)]
    return [[(v - mean) / spread * keep for v, keep in row] for row in pairs]


def whitened__padding_counts(rows, mask):
    return _white(rows, mask, [value for row in rows for value in row])


def whitened__row_by_row(rows, mask):
    both = zip(rows, mask, strict=True)
    return [
        _white([row], [keep], [v for v, k in zip(row, keep, strict=True) if k])[0]
        for row, keep in both
    ]


def left_out__below_one_half(chances, mean):
    return [place for place, chance in enumerate(chances) if chance < 0.5]


def left_out__the_hardest(chances, mean):
    return [chances.index(min(chances))]


def left_out__turned_round(chances, mean):
    return [place for place, chance in enumerate(chances) if chance > mean]
