"""Answers that readers give to the exercises of 10, each wrong for the reason in its name."""

import statistics


def _with_error(changes):
    return statistics.mean(changes), statistics.stdev(changes) / len(changes) ** 0.5


def paired__in_the_order_given(reference, arm):
    pairs = zip(reference.values(), arm.values(), strict=False)
    return _with_error([b - a for a, b in pairs])


def paired__deviation_for_error(reference, arm):
    changes = [arm[seed] - reference[seed] for seed in reference if seed in arm]
    return statistics.mean(changes), statistics.stdev(changes)


def paired__not_paired(reference, arm):
    both = [list(reference.values()), list(arm.values())]
    error = sum(statistics.variance(side) / len(side) for side in both) ** 0.5
    return statistics.mean(both[1]) - statistics.mean(both[0]), error


def false_alarms__added_up(n, level=0.05):
    return min(1.0, n * level), 1 - min(1.0, n * level)


def false_alarms__all_of_them(n, level=0.05):
    return level**n, 1 - level**n


def holm__not_corrected(p_values, level=0.05):
    return [p <= level for p in p_values]


def holm__bonferroni(p_values, level=0.05):
    return [p <= level / len(p_values) for p in p_values]


def holm__does_not_stop(p_values, level=0.05):
    order = sorted(p_values)
    return [p <= level / (len(p_values) - order.index(p)) for p in p_values]
