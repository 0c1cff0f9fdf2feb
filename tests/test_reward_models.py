"""Learned reward models: rows, scores, and that they learn what is easy to learn."""

import pytest
import torch

from trlm_utils import chat, models, nanoworld, tokenization
from trlm_utils.rewards import model_rewards, reward_models, step_rewards

PROBLEM = nanoworld.make_problem("judges", 2, lengths=(0, 1, 1))
QUESTION = chat.to_prompt(PROBLEM.question)
GOOD = chat.think(nanoworld.careful_trace(PROBLEM), nanoworld.answer_text(PROBLEM.answer))
BAD = chat.think("This is easy.", nanoworld.answer_text("1"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tokenizer = tokenization.build_tokenizer(nanoworld.sample_text(200))
    path = tmp_path_factory.mktemp("judges") / "model"
    models.save_model(models.build_model(tokenizer, hidden_size=32), tokenizer, path)
    return path


def test_scores_do_not_depend_on_the_batch(folder):
    judge, tokenizer = reward_models.load_outcome(folder), models.load_tokenizer(folder)
    texts = [chat.render(tokenizer, [*QUESTION, {"role": "assistant", "content": GOOD}]), "Ana"]
    together = reward_models.outcome_scores(judge, tokenizer, texts)
    alone = [reward_models.outcome_scores(judge, tokenizer, [text])[0] for text in texts]
    assert together == pytest.approx(alone, abs=1e-5)
    assert together[0] != together[1]


def test_a_judge_is_saved_and_loaded_with_its_head(folder, tmp_path):
    judge, tokenizer = reward_models.load_outcome(folder), models.load_tokenizer(folder)
    before = reward_models.outcome_scores(judge, tokenizer, ["Ana has 3 cups."])
    models.save_model(judge, tokenizer, tmp_path / "model")
    again = reward_models.load_outcome(tmp_path / "model")
    assert reward_models.outcome_scores(again, tokenizer, ["Ana has 3 cups."]) == before


def test_the_learned_reward_is_the_logistic_of_the_score(folder):
    judge, tokenizer = reward_models.load_outcome(folder), models.load_tokenizer(folder)
    asked = model_rewards.Models(tokenizer=tokenizer, judge=judge)
    (found,) = model_rewards.learned([GOOD], [QUESTION], models=asked)
    text = chat.render(tokenizer, [*QUESTION, {"role": "assistant", "content": GOOD}])
    (score,) = reward_models.outcome_scores(judge, tokenizer, [text])
    assert found == pytest.approx(torch.tensor(score).sigmoid().item(), abs=1e-6)


def test_labels_stand_at_the_ends_of_steps(folder):
    tokenizer = models.load_tokenizer(folder)
    row = reward_models.process_row(tokenizer, PROBLEM, GOOD)
    marked = [i for i, label in enumerate(row["labels"]) if label != -100]
    assert [row["labels"][i] for i in marked] == [1] * len(PROBLEM.steps)
    assert {tokenizer.decode([row["input_ids"][i]]).strip() for i in marked} == {"."}
    assert 1 not in reward_models.process_row(tokenizer, PROBLEM, BAD)["labels"]


def test_a_process_model_learns_its_labels_and_gives_one_chance_per_step(folder):
    tokenizer, judge = models.load_tokenizer(folder), reward_models.load_process(folder)
    rows = [reward_models.process_row(tokenizer, PROBLEM, text) for text in (GOOD, BAD)]
    optimizer = torch.optim.AdamW(judge.parameters(), 1e-2)
    for _ in range(30):
        for row in rows:
            batch = {name: torch.tensor([values]) for name, values in row.items()}
            judge(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    prompt = chat.render(tokenizer, QUESTION, prompt=True)
    good, bad = reward_models.step_chances(judge, tokenizer, prompt, [GOOD, BAD])
    assert len(good) == len(PROBLEM.steps) and len(bad) == 1
    assert min(good) > 0.8 and max(bad) < 0.2
    ids = tokenizer(GOOD, add_special_tokens=False)["input_ids"]
    assert len(good) == len(step_rewards.step_ends(ids, tokenizer))
