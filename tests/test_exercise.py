"""What readers are told about their answers; and the notebooks' exercises, without training.

Of each notebook the exercises run on their own: its imports, the empty functions, the cases,
the solutions. Answers that are wrong in a typical way lie in `wrong_answers/<notebook>.py`.
"""

import ast
import importlib.util
from pathlib import Path

import nbformat
import pytest

from tools import publish
from trlm_utils import exercise

HERE = Path(__file__).parent
DOUBLE = [((1,), 2, "one"), ((3,), 6, "three")]
NOTEBOOKS = sorted(publish.NOTEBOOKS.glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def half_right(x):
    return x + 1


def told(function, cases, capsys):
    exercise.check(function, cases)
    return capsys.readouterr().out


def test_an_empty_answer_is_not_yet_written(capsys):
    def double(x): ...

    assert told(double, DOUBLE, capsys).startswith("not yet: double returns nothing.")


def test_a_right_answer(capsys):
    assert told(lambda x: 2 * x, DOUBLE, capsys) == "right: <lambda>, 2 cases\n"


def test_a_wrong_answer_is_shown_with_the_case(capsys):
    text = told(half_right, DOUBLE, capsys)
    assert text == "wrong (1 of 2 cases right): half_right(3) gives 4, expected 6: three\n"


def test_an_answer_that_raises_stops_nothing(capsys):
    def broken(x):
        return 1 / 0

    text = told(broken, DOUBLE, capsys)
    assert "broken(1) raises ZeroDivisionError: division by zero, expected 2" in text


def test_an_answer_that_changes_its_input_meets_the_same_cases_again(capsys):
    def emptied(items):
        total = sum(items)
        items.clear()
        return total

    cases = [(([1, 2],), 3, "sum")]
    assert "right" in told(emptied, cases, capsys) and "right" in told(emptied, cases, capsys)


def test_a_wrong_solution_of_the_course_fails_the_run(capsys):
    with pytest.raises(AssertionError, match="half_right"):
        exercise.confirm(half_right, DOUBLE)
    exercise.confirm(lambda x: 2 * x, DOUBLE)
    assert "right" in capsys.readouterr().out


def test_what_counts_as_the_same():
    import numpy
    import torch

    assert exercise.same(1.000001, 1) and exercise.same(0.00001, 0.0)
    assert exercise.same((1, [2.0]), [1, (2,)]) and exercise.same({"a": 1.0}, {"a": 1})
    assert exercise.same(torch.tensor([1.0, 2.0]), [1, 2]) and exercise.same(numpy.float32(3), 3)
    assert exercise.same("Ana", "Ana") and exercise.same(None, None)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (1.01, 1),
        ([1], [1, 2]),
        ([1, 2, 3], [1, 2]),
        (1, [1]),
        ([1], 1),
        ("1", 1),
        (None, 0),
        (float("nan"), 0.0),
        ({"a": 1, "b": 2}, {"a": 1}),
    ],
)
def test_what_does_not(found, expected):
    assert not exercise.same(found, expected)


# --- in the notebooks -------------------------------------------------------------------


def cells(path, tag):
    """Sources of a notebook's code cells with a tag."""
    found = nbformat.read(path, as_version=4).cells
    return [c.source for c in found if tag in c.metadata.get("tags", [])]


def checks(path):
    """Names of the functions asked for, each with the name of its cases."""
    calls = [n for s in cells(path, "exercise-check") for n in ast.walk(ast.parse(s))]
    calls = [
        n for n in calls if isinstance(n, ast.Call) and ast.unparse(n.func) == "exercise.check"
    ]
    return {call.args[0].id: call.args[1].id for call in calls}


def imports(path):
    """The import statements of a notebook's first cell after bootstrap and parameters."""
    notebook = nbformat.read(path, as_version=4)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    before = {"colab", "settings", "parameters"}
    code = [c.source for c in code if not before & set(c.metadata.get("tags", []))]
    nodes = [n for n in ast.parse(code[0]).body if isinstance(n, (ast.Import, ast.ImportFrom))]
    return "\n".join(map(ast.unparse, nodes))


def names_after(path, *tags):
    """The names that a notebook's imports and its cells with these tags define, in order."""
    found = {}
    for source in (imports(path), *(s for tag in tags for s in cells(path, tag))):
        exec(source, found)
    return found


@each
def test_there_are_three_exercises_that_ask_for_code(path):
    assert len(checks(path)) >= 3 and len(checks(path)) == len(cells(path, "exercise"))


@each
def test_the_empty_functions_run_and_are_told_from_right_and_wrong(path, capsys):
    names_after(path, "exercise", "exercise-check")
    lines = capsys.readouterr().out.splitlines()
    starts = [f"not yet: {name} " for name in checks(path)]
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts


@each
def test_every_solution_passes_the_cases_of_its_exercise(path, capsys):
    names = names_after(path, "exercise", "exercise-check", "solution")
    for function, cases in checks(path).items():
        right, sentence = exercise.judge(names[f"{function}_solution"], names[cases])
        assert right, sentence
        confirmed = f"exercise.confirm({function}_solution, {cases})"
        assert any(confirmed in source for source in cells(path, "solution"))


@each
def test_solutions_are_folded_and_their_titles_say_what_they_solve(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if "solution" in cell.metadata.get("tags", []):
            assert cell.metadata["jupyter"]["source_hidden"]  # JupyterLab, VS Code
            assert cell.metadata["cellView"] == "form"  # Colab
            assert cell.source.startswith("# @title Solution ")


@each
def test_wrong_answers_are_noticed(path):
    """For every exercise at least two answers with a typical mistake."""
    names = names_after(path, "exercise", "exercise-check")
    place = HERE / "wrong_answers" / f"{path.stem}.py"
    spec = importlib.util.spec_from_file_location(f"wrong_{path.stem}", place)
    wrong = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(wrong)
    for function, cases in checks(path).items():
        answers = [a for name, a in vars(wrong).items() if name.startswith(f"{function}__")]
        assert len(answers) >= 2, function
        for answer in answers:
            right, sentence = exercise.judge(answer, names[cases])
            assert not right and sentence.startswith("wrong"), answer.__name__
            assert " raises " not in sentence, sentence
