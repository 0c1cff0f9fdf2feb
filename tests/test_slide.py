"""Every figure on a slide: its shape, the size of its text, its title, its colours."""

import inspect
import re

import pandas as pd
import pytest

from tools import figures
from trlm_utils import plots, slide
from trlm_utils.evaluation import arm_plots, ladder_plots, rise_plots
from trlm_utils.files import PROJECT_ROOT
from trlm_utils.rewards import reward_plots

COMMITTED = [name for name in figures.PAINTERS if (figures.FIGURES / f"{name}.csv").is_file()]
MODULES = (plots, arm_plots, ladder_plots, rise_plots, reward_plots)


@pytest.mark.parametrize("name", COMMITTED)
def test_a_figure_of_a_committed_table_fits_a_slide(name):
    found = {drawn: slide.problems(figure) for drawn, figure, _ in figures.draw(name)}
    assert found == dict.fromkeys(found, [])


def test_figures_without_a_committed_table_fit_a_slide():
    lengths = {name: list(range(20, 200)) for name in ("sft_stage1", "grpo_prompts")}
    assert slide.problems(plots.plot_lengths(lengths)) == []
    ends = {name: ("00_start_here", "06_grpo") for name in ("nano", "trlm", "tina")}
    ladder = figures.read("ladder").query("band == 'in_distribution' and form == 'chat'")
    ladder = pd.concat([ladder.assign(recipe=name) for name in ends])
    assert slide.problems(rise_plots.plot_recipes(ladder, ends)) == []


def test_every_drawing_function_is_among_those_tested():
    tested = inspect.getsource(figures) + inspect.getsource(
        test_figures_without_a_committed_table_fit_a_slide
    )
    functions = {name for module in MODULES for name in vars(module) if name.startswith("plot_")}
    assert functions - set(re.findall(r"\bplot_\w+", tested)) == set()


def test_every_committed_figure_is_drawn_by_something():
    names = {path.stem for path in figures.FIGURES.glob("*.png")}
    parts = {"grpo_groups", "hack_bench_mixes", "hack_bench_rewards", "signal_map"}
    pages = {name for name in names if name.rpartition("_")[2].isdigit()}
    assert names - set(figures.PAINTERS) - parts - pages <= {"data_lengths", "compare"}


def simple(size=slide.TEXT, title="Loss 2 to 1", inches=slide.SIZE):
    import matplotlib.pyplot as plt

    with plt.rc_context(slide.STYLE):
        figure, axis = plt.subplots(figsize=inches)
        axis.plot([0, 1], [2, 1], label="loss")
        axis.tick_params(labelsize=size)
        slide.put_title(figure, title)
    plt.close(figure)
    return figure


def test_text_is_measured_in_pixels_of_the_slide():
    # 9 points of 72 an inch on 7.2 inches, which are 640 pixels high on a slide
    assert slide.smallest_text_px(simple(size=9)) == pytest.approx(9 / 72 / 7.2 * 640)
    # a wide figure is as wide as one of 16:9 and not higher: 1137.8 pixels on 25.6 inches
    wide = simple(size=9, inches=(25.6, 7.2))
    assert slide.smallest_text_px(wide) == pytest.approx(9 / 72 / 25.6 * 640 * 16 / 9)


def test_what_does_not_fit_a_slide_is_named():
    assert slide.problems(simple()) == []
    assert slide.problems(simple(size=12)) == ["text of 14.8 pixels on a slide; 18 are needed"]
    assert "no title" in slide.problems(simple(title=""))
    assert "12.8 x 5 inches are not 16:9" in slide.problems(simple(inches=(12.8, 5)))
    figure = simple()
    figure.axes[0].legend(fontsize=slide.TEXT)
    assert slide.problems(figure) == ["a legend inside a panel, where curves are"]
    figure = simple()
    figure.axes[0].set_xticks([0.0, 0.01], ["one label", "another label"])
    assert slide.problems(figure) == ["labels over each other: 'one label', 'another label'"]


def test_the_slides_give_a_figure_the_height_that_is_measured_with():
    page = (PROJECT_ROOT / "tools" / "slides_template" / "index.html.j2").read_text()
    height, width = map(int, re.search(r"max-height: (\d+)px; max-width: (\d+)px", page).groups())
    assert height == slide.PICTURE and width >= height * 16 / 9


def test_a_title_stands_above_the_panels_and_keeps_numbers_and_their_percent_together():
    figure = simple(title="accuracy 5 % " * 10)
    top = figure.get_suptitle().split("\n")
    assert all(not line.startswith("%") for line in top) and len(top) == 2
    figure.draw_without_rendering()
    below = figure._suptitle.get_window_extent().y0
    assert figure.axes[0].get_window_extent().y1 < below


@pytest.mark.parametrize(
    "meanings",
    [
        {name: style[0] for name, style in plots.DECODING_STYLE.items()},
        ladder_plots.STAGE_COLOURS | {d: s[0] for d, s in list(plots.DECODING_STYLE.items())[:2]},
        arm_plots.BAND_COLOURS,
        plots.STYLE_COLOURS,
        dict(zip(reward_plots.WORDS, reward_plots.CELLS, strict=True)),
        dict(enumerate((reward_plots.ALARM, reward_plots.CURE, reward_plots.UNHARMED))),
        dict(enumerate((*reward_plots.REWARD_COLOURS, "#000000", "#222222", "#BBBBBB"))),
    ],
)
def test_a_colour_has_one_meaning(meanings):
    assert len(set(meanings.values())) == len(meanings)


def test_a_stage_has_its_colour_whatever_is_drawn_beside_it():
    alone = ladder_plots.stage_styles(["06_grpo"])
    beside = ladder_plots.stage_styles(["00_start_here", "mine", "06_grpo"])
    assert alone["06_grpo"] == beside["06_grpo"]
    assert beside["mine"]["color"] not in ladder_plots.STAGE_COLOURS.values()


def test_figures_are_drawn_again_without_touching_their_table(tmp_path, capsys):
    assert figures.main(["reward_parts", "grpo_training"], tmp_path) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert {"reward_parts.png", "reward_parts.svg", "grpo_groups.csv"} <= names
    assert "reward_parts.csv" not in names and "grpo_training.csv" not in names
    assert figures.main(["nothing"], tmp_path) == 2
    assert "nothing draws 'nothing'" in capsys.readouterr().err
