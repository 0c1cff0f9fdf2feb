"""The explorer: its arithmetic by hand, and what moving a control changes."""

import pytest

from trlm_utils.rewards import explorer, reward_plots

GROUP = {
    "careful": "<think> 2 + 3: 5.</think> The answer is 5.",
    "guess": "5",
    "wrong": "<think> 2 + 3: 6.</think> The answer is 6.",
}
MIX = {"accuracy": 1.0, "think_format": 0.5}


def test_parts_total_and_advantage_by_hand():
    table = explorer.compare(GROUP, MIX, answer="5").set_index("completion")
    assert table["accuracy"].to_list() == [1.0, 1.0, 0.0]
    assert table["think_format"].to_list() == [0.5, 0.0, 0.5]
    assert table["total"].to_list() == [1.5, 1.0, 0.5]
    assert table["advantage"].to_list() == [0.5, 0.0, -0.5]  # the mean is 1.0


def test_lengths_are_tokens_where_a_tokenizer_is_given(tokenizer):
    mix = {"length_exact": {"weight": 1.0, "target": 1, "slope": 0.001}}
    words = explorer.compare(GROUP, mix, answer="5")["total"]
    tokens = explorer.compare(GROUP, mix, tokenizer, answer="5")["total"]
    ids = tokenizer(list(GROUP.values()), add_special_tokens=False)["input_ids"]
    assert tokens.to_list() == pytest.approx([-0.001 * abs(1 - len(i)) for i in ids])
    assert words.to_list() == pytest.approx([-0.008, 0.0, -0.008])  # nine words, one, nine


def test_the_winner_in_one_line():
    line = explorer.winner(explorer.compare(GROUP, MIX, answer="5"))
    assert line == "moved towards most: careful"
    same = explorer.winner(explorer.compare(GROUP, {"accuracy": 1.0}, answer="7"))
    assert "nothing would be learned" in same


def test_one_completion_is_no_group():
    with pytest.raises(ValueError, match="at least two"):
        explorer.compare({"alone": "5"}, MIX, answer="5")


def test_moving_a_slider_changes_table_picture_and_message():
    found = explorer.Explorer(GROUP, MIX, answer="5")
    before, message = found.picture.value, found.message.value
    found.sliders["accuracy"].value = -1.0
    assert found.table.set_index("completion")["total"].to_list() == [-0.5, -1.0, 0.5]
    assert found.picture.value != before
    assert "moved towards most: wrong" in found.message.value != message


def test_settings_group_and_mix_have_controls():
    found = explorer.Explorer(GROUP, MIX, answer="5")
    found.group.value = ("guess", "wrong")
    assert found.table["completion"].to_list() == ["guess", "wrong"]
    found.more.value = "reasoning_steps"
    assert "reasoning_steps" in found.table
    found.settings["reasoning_steps"]["enough"].value = 7
    assert found.weights["reasoning_steps"] == {"weight": 1.0, "enough": 7}
    found.mix.value = "tina"
    assert list(found.weights) == ["think_format", "cosine"]
    assert found.weights["cosine"]["weight"] == 2.0
    found.group.value = ("guess",)
    assert "at least two" in found.message.value


def test_settings_that_exclude_each_other_are_said():
    found = explorer.Explorer(GROUP, {"overlong": 1.0}, answer="5")
    found.settings["overlong"]["max_length"].value = 10
    assert found.message.value == "margin of overlong is 32, above its max_length 10"
    found.settings["overlong"]["margin"].value = 5
    assert "above its" not in found.message.value


def test_the_picture_has_a_bar_for_every_part_and_completion():
    table = explorer.compare(GROUP, MIX, answer="5")
    paid, moved = reward_plots.plot_group(table).axes
    assert len(paid.patches) == 2 * len(GROUP)
    assert [bar.get_width() for bar in moved.patches] == table["advantage"].to_list()
