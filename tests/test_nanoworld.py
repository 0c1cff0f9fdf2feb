"""NanoWorld: determinism, bounds, answers recomputed by an independent solver."""

import re

import pytest

from trlm_utils import nanoworld


def solve(question: str) -> str:
    """Solve a question from its text alone, sharing no code with the generator."""
    if question.startswith("Compute"):
        values = {}
        for name, left, op, by in re.findall(r"(\w) = (\w+) ([+-]) (\d+)", question):
            start = values[left] if left in values else int(left)
            values[name] = start + int(by) if op == "+" else start - int(by)
        return str(values[re.search(r"What is (\w)\?", question)[1]])
    if "ball" in question:
        holder = re.match(r"(\w+) has the ball", question)[1]
        for a, b in re.findall(r"In \w+ (\w+) and (\w+) swap", question):
            holder = b if holder == a else a if holder == b else holder
        return holder
    if "points" in question:
        points = {m[0]: int(m[1]) for m in re.findall(r"^(\w+) has (\d+) points", question)}
        for a, verb, b, by in re.findall(
            r"(\w+) (beats|trails|leads|follows) (\w+) by (\d+)", question
        ):
            sign = -1 if verb in ("beats", "leads") else 1
            points[b] = points[a] + sign * int(by)
        return str(points[re.search(r"points has (\w+)\?", question)[1]])
    if "honest" in question:
        name, state = re.match(r"(\w+) is (honest|lying)", question).groups()
        honest = {name: state == "honest"}
        for a, b, said in re.findall(r"(\w+) says (\w+) is (honest|lying)", question):
            honest[b] = (said == "honest") == honest[a]
        return "yes" if honest[re.search(r"Is (\w+) honest\?", question)[1]] else "no"
    total = int(re.search(r"has (\d+)", question)[1])
    for verb, by in re.findall(r"(brings|takes|adds|costs) (\d+)", question):
        total += int(by) if verb in ("brings", "adds") else -int(by)
    return str(total)


def all_problems():
    return [p for band in nanoworld.BANDS for p in nanoworld.band_problems(band, 60)]


def test_answers_follow_from_the_question_alone():
    for problem in all_problems() + nanoworld.make_problems("train", 200, lengths=[1] * 10):
        assert solve(problem.question) == problem.answer, problem


def test_item_depends_only_on_seed_split_and_index():
    whole = nanoworld.make_problems("train", 20)
    assert nanoworld.make_problem("train", 13) == whole[13]
    assert nanoworld.make_problem("train", 13, seed=1) != whole[13]
    assert nanoworld.make_problem("other", 13) != whole[13]


def test_numbers_stay_within_one_token():
    for problem in all_problems():
        numbers = [int(n) for n in re.findall(r"\d+", nanoworld.careful_trace(problem))]
        assert all(0 <= n <= nanoworld.MAX_NUMBER for n in numbers), problem


@pytest.mark.parametrize("band", nanoworld.BANDS)
def test_bands_have_their_lengths_and_families(band):
    families, low, high, _ = nanoworld.BANDS[band]
    problems = nanoworld.band_problems(band, 80)
    assert {p.family for p in problems} == set(families)
    assert {len(p.steps) for p in problems} == set(range(low, high + 1))


def test_training_and_held_out_questions_are_disjoint():
    assert all(nanoworld.is_held_out(p.question) for p in all_problems())
    trained = nanoworld.make_problems("train", 500) + nanoworld.make_problems("base", 500)
    assert not any(nanoworld.is_held_out(p.question) for p in trained)


def test_band_questions_are_all_different():
    problems = nanoworld.band_problems("in_distribution", 300)
    assert len({p.question for p in problems}) == 300


def test_reworded_problems_use_words_that_training_never_shows():
    trained = " ".join(p.question for p in nanoworld.make_problems("train", 300))
    for word in ("adds", "costs", "leads", "follows"):
        assert f" {word} " not in trained
        assert any(f" {word} " in p.question for p in nanoworld.band_problems("new_phrasing", 80))


@pytest.mark.parametrize("teacher", ["careful", "rambling"])
def test_careful_teachers_are_always_right(teacher):
    for problem in nanoworld.make_problems("train", 50):
        thought, answer = nanoworld.teach(problem, teacher)
        assert answer == problem.answer
        assert all(nanoworld.steps_right(problem, thought))
        assert nanoworld.style_of(thought) == teacher


def test_slipping_gets_exactly_one_step_wrong_at_first():
    for problem in nanoworld.make_problems("train", 80):
        thought, _ = nanoworld.teach(problem, "slipping")
        right = nanoworld.steps_right(problem, thought)
        assert not all(right)
        assert all(right[: right.index(False)])


def test_hasty_skips_the_work_and_is_seldom_right():
    problems = [p for p in nanoworld.make_problems("train", 400) if p.family != "swap"]
    taught = [nanoworld.teach(p, "hasty") for p in problems]
    assert {nanoworld.style_of(thought) for thought, _ in taught} == {"hasty"}
    lucky = sum(a == p.answer for (_, a), p in zip(taught, problems, strict=True))
    assert lucky / len(problems) < 0.15


def test_steps_right_finds_a_wrong_step():
    problem = nanoworld.make_problem("train", 0, lengths=(0, 0, 1), families=("story",))
    lines = [nanoworld.step_text(step) for step in problem.steps]
    lines[1] = lines[1].replace("=", "= 1")
    assert nanoworld.steps_right(problem, " ".join(lines)) == [True, False, True]


def test_teacher_shares_are_kept():
    shares = {"careful": 0.7, "hasty": 0.3}
    drawn = [nanoworld.draw_teacher(shares, f"key{i}") for i in range(1000)]
    assert 0.25 < drawn.count("hasty") / 1000 < 0.35


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nanoworld.make_problem("t", 0, families=("nope",)), "unknown family"),
        (lambda: nanoworld.make_problem("t", 0, lengths=[0, 0]), "no relative frequencies"),
        (lambda: nanoworld.make_problem("t", 0, lengths=[1] * 11), "at most 10 steps"),
        (lambda: nanoworld.band_problems("nope", 1), "unknown band"),
        (lambda: nanoworld.draw_teacher({"careful": 0.5}, "k"), "add up to 0.5"),
        (lambda: nanoworld.draw_teacher({"wise": 1.0}, "k"), "unknown teacher"),
        (lambda: nanoworld.teach(nanoworld.make_problem("t", 0), "wise"), "unknown teacher"),
    ],
)
def test_bad_requests_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
