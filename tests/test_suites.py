"""Suites of published benchmarks: files found, every loader and scorer, records."""

import json

import pytest
import torch

from trlm_utils import chat, generation
from trlm_utils.evaluation import held_out, ladder, suites
from trlm_utils.evaluation.chat_lm import stopped
from trlm_utils.evaluation.tasks import scoring
from trlm_utils.files import PROJECT_ROOT, CourseError, write_rows

MIRROR = PROJECT_ROOT / "tests" / "fixtures" / "hub"


def rows_of(path):
    return [json.loads(line) for line in (MIRROR / path).read_text().splitlines()]


@pytest.fixture(scope="module")
def trlm():
    (opened,) = suites.open_suites(["trlm"], folder=str(MIRROR))
    return opened


@pytest.fixture(scope="module")
def tina():
    (opened,) = suites.open_suites(["tina"], folder=str(MIRROR), samples=2)
    return opened


@pytest.fixture
def says(monkeypatch):
    """Replace the model: it says what a function of the prompt returns."""

    def replace(reply):
        def sample(model, tokenizer, prompts, **kwargs):
            seen.append(kwargs)
            return [generation.Sample(reply(prompt), 7, True) for prompt in prompts]

        seen = []
        monkeypatch.setattr(generation, "sample", sample)
        return seen

    return replace


def ask(opened, tokenizer, model=None, bands=None, **settings):
    kept = {band: opened.tasks[band] for band in bands or opened.tasks}
    part = suites.OpenSuite(opened.suite, kept)
    return suites.ask(model, tokenizer, part, max_new_tokens=8, **settings)


def test_a_suite_names_the_data_sets_that_its_tasks_read():
    for name in suites.names():
        suite = suites.load(name)
        manager = suites.task_manager(suite)
        read = {
            manager.task_index[leaf].cfg["dataset_path"]
            for spec in suite.tasks.values()
            for leaf in suites.leaves(manager, spec["task"])
        }
        assert read == set(suite.hub), name


def test_published_scores_are_of_benchmarks_that_are_asked():
    for name in suites.names():
        suite = suites.load(name)
        for entry in suite.published:
            assert set(entry["scores"]) <= set(suite.tasks)
            assert all(1 < score < 100 for score in entry["scores"].values())


def test_the_groups_are_whole(trlm):
    assert {band: len(group) for band, group in trlm.tasks.items()} == {
        "gsm8k": 1,
        "bbh": 27,
        "arc_challenge": 1,
        "boolq": 1,
        "piqa": 1,
        "ifeval": 1,
        "mmlu": 57,
    }
    assert trlm.questions(1).to_dict()["mmlu"] == 57
    assert trlm.questions()["gsm8k"] == len(rows_of("openai__gsm8k/main/test.jsonl"))


# --- tina: the course's tasks, its sampling and its checker -------------------------


@pytest.mark.parametrize(
    ("band", "path", "gold"),
    [
        ("aime_2024", "HuggingFaceH4__aime_2024/default/train.jsonl", "15"),
        ("aime_2025", "yentinglin__aime_2025/default/train.jsonl", "16"),
        ("amc_2023", "knoveleng__AMC-23/default/train.jsonl", "17"),
        ("math_500", "HuggingFaceH4__MATH-500/default/test.jsonl", "18"),
        ("minerva", "knoveleng__Minerva-Math/default/train.jsonl", "19"),  # from its solution
    ],
)
def test_mathematics_is_asked_and_scored(tina, tokenizer, says, band, path, gold):
    """The first question's answer is said to all of them; it is right once."""
    says(lambda prompt: rf"<think> so</think> \boxed{{{gold}}}")
    records = ask(tina, tokenizer, bands=[band])
    problems = [row["problem"] for row in rows_of(path)]
    assert [r["accuracy"] for r in records] == [1.0] + [0.0] * (len(problems) - 1)
    assert [p in r["prompt"] for p, r in zip(problems, records, strict=True)].count(True) == len(
        problems
    )
    assert records[0]["gold"] == gold and records[0]["decoding"] == "sampled"


@pytest.mark.parametrize(
    ("said", "right"),
    [(r"\boxed{4.5 \times 10^{14}}", 1.0), (r"\boxed{4.5 \times 10^{13}}", 0.0)],
)
def test_minervas_numbers_with_an_exponent_are_read(tina, tokenizer, says, said, right):
    """The solution of the last fixture boxes 4.5e14."""
    says(lambda prompt: said)
    assert ask(tina, tokenizer, bands=["minerva"])[-1]["accuracy"] == right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("The answer is B.", 1.0),
        (r"\boxed{B) 5 eV}", 1.0),
        (r"So it is $\boxed{\text{B}}$", 1.0),
        ("The correct answer is B) 5 eV.", 1.0),
        ("Answer: B) foo", 1.0),
        ("The correct option is **B**.", 1.0),
        ("**Final Answer**: B", 1.0),
        ("The answer is A. No, the answer is B.", 1.0),
        ("The answer is A.", 0.0),
        ("The answer is a Boson.", 0.0),
        ("<think> The answer is B.", 0.0),
        ("", 0.0),
    ],
)
def test_a_letter_is_read_in_the_ways_models_state_it(text, right):
    assert scoring.score_options({"answer": "B"}, [[text]])["accuracy"] == right


def test_options_of_gpqa_are_lettered_and_the_right_one_moves(tina, tokenizer, says):
    row = rows_of("Idavidrein__gpqa/gpqa_diamond/train.jsonl")[0]
    right = row["Correct Answer"]

    def letter(prompt):
        lines = [line for line in prompt.split("\n") if line.endswith(f") {right}")]
        return f"The answer is {lines[0][0]}." if lines else "The answer is E."

    says(letter)
    records = ask(tina, tokenizer, bands=["gpqa_diamond"])
    assert records[0]["accuracy"] == 1.0
    assert {"A", "B", "C", "D"} >= {r["gold"] for r in records}
    assert len({r["gold"] for r in records}) > 1
    for wrong in ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"):
        assert f") {row[wrong]}\n" in records[0]["prompt"]


def test_pass_at_1_is_the_mean_over_samples_drawn_as_published(tina, tokenizer, says):
    """The two replies to a question differ: one is right."""
    replies = iter(["The answer is 15.", "The answer is 14."] * 6)
    seen = says(lambda prompt: next(replies))
    records = ask(tina, tokenizer, bands=["aime_2024"])
    assert records[0]["accuracy"] == 0.5 and len(records[0]["texts"]) == 2
    assert (seen[0]["temperature"], seen[0]["top_p"]) == (0.6, 0.95)


# --- trlm: lm-eval's tasks ------------------------------------------------------------


def test_gsm8k_has_five_examples_as_turns_and_reads_behind_the_thought(trlm, tokenizer, says):
    gold = rows_of("openai__gsm8k/main/test.jsonl")[0]["answer"].split("#### ")[1]
    says(lambda prompt: f"<think> 9\n\n9 Question: 9</think> It is {gold}. Question: 7")
    first, *others = ask(trlm, tokenizer, bands=["gsm8k"])
    assert first["accuracy"] == 1.0 and not all(r["accuracy"] for r in others)
    assert first["prompt"].count("<|im_start|>user") == 6
    assert first["well_formed"] == 1.0 and first["truncated"] == 0.0 and first["tokens"] == 7
    assert first["texts"][0].startswith("<think>")  # the raw reply is kept


def test_bbh_reads_what_the_answer_is(trlm, tokenizer, says):
    rows = rows_of("SaylorTwift__bbh/boolean_expressions/test.jsonl")
    says(lambda prompt: f"So the answer is {rows[0]['target']}.")
    records = ask(trlm, tokenizer, bands=["bbh"])
    found = [r for r in records if r["id"].startswith("bbh_cot_fewshot_boolean_expressions")]
    expected = [float(row["target"] == rows[0]["target"]) for row in rows]
    assert [r["accuracy"] for r in found] == expected
    assert found[0]["prompt"].count("<|im_start|>user") == 4


def test_ifeval_checks_instructions(trlm, tokenizer, says):
    """The first prompt forbids commas."""
    for reply, right in (("A tree is tall.", 1.0), ("A tree, it is tall.", 0.0)):
        says(lambda prompt, reply=reply: f"<think> Commas, commas.</think> {reply}")
        assert ask(trlm, tokenizer, bands=["ifeval"])[0]["accuracy"] == right


def likelihood(model, tokenizer, prompt, option):
    """Log-probability of a text behind a prompt, token by token."""
    start = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    whole = tokenizer(prompt + option, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logs = model(torch.tensor([whole])).logits[0].log_softmax(-1)
    return sum(logs[i - 1, whole[i]].item() for i in range(len(start), len(whole)))


def test_options_are_chosen_by_their_likelihood(trlm, tokenizer, model):
    """boolq's two options, against a computation of our own."""
    records = ask(trlm, tokenizer, model, bands=["boolq"])
    rows = rows_of("aps__super_glue/boolq/validation.jsonl")
    assert len(records) == len(rows)
    for record, row in zip(records, rows, strict=True):
        scores = [likelihood(model, tokenizer, record["prompt"], o) for o in ("no", "yes")]
        chosen = int(scores[1] > scores[0])
        assert record["texts"] == [("no", "yes")[chosen]]
        assert record["accuracy"] == float(chosen == row["label"])
        assert record["gold"] == ("no", "yes")[row["label"]]
        assert (record["decoding"], record["truncated"], record["tokens"]) == (
            "likelihood",
            None,
            None,
        )


@pytest.mark.parametrize("band", ["arc_challenge", "piqa", "mmlu"])
def test_the_option_shown_is_the_one_scored(trlm, tokenizer, model, band):
    records = ask(trlm, tokenizer, model, bands=[band])
    assert len(records) == trlm.questions()[band]
    assert all(r["accuracy"] == float(r["texts"] == [r["gold"]]) for r in records)


def test_asking_for_likelihoods_leaves_the_models_mode(trlm, tokenizer, model):
    model.train()
    ask(trlm, tokenizer, model, bands=["boolq"], questions=1)
    assert model.training


def test_suites_give_ladders_and_differences(trlm, tokenizer, model):
    records = ask(trlm, tokenizer, model, bands=["boolq", "piqa"])
    rows = ladder.ladder_rows(records, "s", 0)
    assert [(r["band"], r["decoding"], r["truncated"]) for r in rows] == [
        ("boolq", "likelihood", None),
        ("piqa", "likelihood", None),
    ]
    differences = ladder.compare(records, records, ("s", "t"))
    assert [d["difference"] for d in differences] == [0, 0]


# --- folders and names ----------------------------------------------------------------

GSM8K = {"dataset_path": "openai/gsm8k", "dataset_name": "main"}


@pytest.mark.parametrize(
    "place",
    [
        "openai__gsm8k/main/test.jsonl",
        "gsm8k/main/test-00000-of-00001.parquet",
        "gsm8k/data/test.csv",
        "gsm8k/test.json",
        "elsewhere/test.jsonl",
    ],
    ids=["mirror", "clone", "data folder", "plain folder", "named folder"],
)
def test_files_are_found_where_they_usually_lie(tmp_path, place):
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    for name in (path.name, f"{path.parent.name}_test.txt", "test_rationales.jsonl"):
        (path.parent / name).write_text("")
    found = suites.find_files(GSM8K, ["test", "train"], str(tmp_path), "elsewhere")
    assert found == {"test": [path]}


def leave(folder, *names):
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("test.jsonl", b'{"problem": "1 + 1?", "answer": "2"}\n{"problem": "1', "JSON"),
        ("test.jsonl", b'{"question": "1 + 1?", "answer": "2"}\n', "no column 'problem'"),
        ("test.jsonl", b"", "no rows"),
        ("test.parquet", b"PAR1 and no more", "Parquet"),
    ],
    ids=["cut off", "another column", "empty", "damaged"],
)
def test_damaged_files_get_one_line_with_the_data_set(tmp_path, name, content, reason):
    leave(tmp_path / "math500", name)
    (tmp_path / "math500" / name).write_bytes(content)
    with pytest.raises(CourseError, match=rf"MATH-500 \(default\) in .*{reason}") as caught:
        suites.open_suites(["tina"], ["math_500"], str(tmp_path))
    assert "\n" not in str(caught.value)


def test_one_format_is_read(tmp_path):
    """The same split in two formats is not asked twice, nor mixed with another's."""
    folder = tmp_path / "gsm8k" / "main"
    leave(folder, "test.jsonl", "test.json", "train.parquet")
    found = suites.find_files(GSM8K, ["test", "train"], str(tmp_path))
    assert found == {"test": [folder / "test.jsonl"]}


def test_missing_shards_are_told(tmp_path):
    leave(tmp_path / "gsm8k" / "main", "test-00000-of-00002.parquet")
    with pytest.raises(CourseError, match="1 of 2 shards are there"):
        suites.find_files(GSM8K, ["test"], str(tmp_path))


def test_a_subset_is_not_read_from_a_plain_folder(tmp_path):
    """All 57 subjects of mmlu would read the same file."""
    leave(tmp_path / "mmlu", "test.jsonl")
    config = {"dataset_path": "cais/mmlu", "dataset_name": "anatomy"}
    assert suites.find_files(config, ["test"], str(tmp_path), alone=False) == {}


def test_a_file_of_another_name_is_read_where_the_suite_names_it(tmp_path):
    leave(tmp_path / "IFEval", "ifeval_input_data.jsonl")
    named = suites.load("trlm").tasks["ifeval"]["files"]
    found = suites.find_files({"dataset_path": "google/IFEval"}, ["train"], str(tmp_path), named)
    assert found == {"train": [tmp_path / "IFEval" / "ifeval_input_data.jsonl"]}


def test_missing_files_are_named(tmp_path):
    write_rows(tmp_path / "gsm8k" / "test.jsonl", [{"question": "1?", "answer": "#### 1"}])
    with pytest.raises(CourseError, match=r"openai/gsm8k \(main\) in .*: no file of split train"):
        suites.open_suites(["trlm"], ["gsm8k"], str(tmp_path))


@pytest.mark.parametrize(
    ("names", "tasks", "message"),
    [
        (["nono"], [], "no suite 'nono'; there are nano, tina, trlm"),
        (["nano", "tina"], ["gsm8k"], "no benchmark 'gsm8k' in nano, tina"),
    ],
)
def test_unknown_names_are_refused(names, tasks, message):
    with pytest.raises(CourseError, match=message):
        suites.check(names, tasks)


def test_a_suite_without_wanted_benchmarks_is_left_out():
    opened = suites.open_suites(["trlm", "tina"], ["math_500"], str(MIRROR))
    assert [one.suite.name for one in opened] == ["tina"]


def test_a_name_that_is_asked_already_is_refused():
    with pytest.raises(CourseError, match="math_500 is asked by a suite and by the questions"):
        suites.open_suites(["tina"], ["math_500"], str(MIRROR), taken={"math_500"})


def test_a_text_ends_at_the_first_stop():
    assert stopped("one Question: two\n\nthree", ["\n\n", "Question:", ""]) == "one "


def test_raw_samples_are_the_same_questions_for_every_model():
    def record(i, band):
        texts = [f"reply {i}"]
        return {
            "id": f"q{i}",
            "band": band,
            "decoding": "greedy",
            "accuracy": 1.0,
            "form": "chat",
        } | {
            "prompt": f"asked {i}",
            "gold": str(i),
            "texts": texts,
        }

    records = [record(i, "a") for i in range(9, -1, -1)] + [record(3, "b")]
    rows = held_out.raw_samples(records)
    assert [r["id"] for r in rows] == ["q0", "q2", "q4", "q6", "q8", "q3"]
    assert rows[1]["reply"] == "reply 2" and rows[1]["prompt"] == "asked 2"
    assert "prompt" not in held_out.without_prompts(records)[0]


def test_a_question_is_rendered_with_the_system_message(tina, tokenizer, says):
    says(lambda prompt: "")
    record = ask(tina, tokenizer, bands=["aime_2024"], system="Think.")[0]
    question = rows_of("HuggingFaceH4__aime_2024/default/train.jsonl")[0]["problem"]
    messages = chat.to_prompt(question, "Think.")
    assert record["prompt"] == chat.render(tokenizer, messages, prompt=True)


@pytest.mark.real_data
def test_real_files_are_asked_whole(real_data, tokenizer, says):
    """Counts as published; the gold answer of the first of each is accepted."""
    for name, band, number in (("trlm", "gsm8k", 1319), ("tina", "math_500", 500)):
        (opened,) = suites.open_suites([name], [band], str(real_data))
        assert opened.questions().to_dict() == {band: number}
        says(lambda prompt: "The answer is 1.")
        gold = ask(opened, tokenizer, questions=1)[0]["gold"].split("#### ")[-1]
        says(lambda prompt, gold=gold: f"The answer is {gold}.")
        assert ask(opened, tokenizer, questions=1)[0]["accuracy"] == 1.0
