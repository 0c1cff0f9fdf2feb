"""Several ranks: batches divided, the same training as one process, restarts, what is shown.

With ``--ranks 2`` two processes train on this machine's CPU, with gloo. Losses may differ from
those of one process by rounding; the last batch of an epoch may, as accelerate fills it up.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from trlm_utils import machine, ranks
from trlm_utils.files import PROJECT_ROOT
from trlm_utils.runner import command, recipes, torchrun
from trlm_utils.runner.parameters import RecipeError
from trlm_utils.stage import Stage
from trlm_utils.training.checkpoints import whole_checkpoints
from trlm_utils.training.configuration import for_ranks

RECIPE = Path(__file__).with_name("ranks.yaml")
WORKER = Path(__file__).with_name("ranks_worker.py")
TRAINED = ("00_start_here", "02_sft_stage1", "03_sft_stage2", "04_dpo")


def batch(size, passes, **more):
    settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": passes}
    return settings | more


# --- without processes ------------------------------------------------------------


@pytest.mark.parametrize(
    "size, passes, world, expected",
    [(32, 1, 2, (16, 1)), (16, 2, 2, (16, 1)), (8, 6, 4, (6, 2)), (8, 8, 4, (8, 2))],
)
def test_ranks_share_a_batch_by_fewer_passes_or_smaller_ones(size, passes, world, expected):
    found = for_ranks(batch(size, passes), world)
    assert tuple(found.values()) == expected
    assert found["per_device_train_batch_size"] * found["gradient_accumulation_steps"] * world == (
        size * passes
    )


def test_one_rank_changes_nothing():
    settings = batch(32, 1, seed=3)
    assert for_ranks(settings, 1) == settings


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="a step's batch of 9 cannot be divided among 2 ranks"):
        for_ranks(batch(3, 3), 2)


def test_generation_follows_the_passes_and_a_group_stays_whole():
    settings = batch(8, 4, steps_per_generation=4, num_generations=8)
    assert for_ranks(settings, 2)["steps_per_generation"] == 2
    with pytest.raises(ValueError, match="would split a group of 8 completions"):
        for_ranks(batch(4, 2, num_generations=8), 2)


def test_each_rank_has_its_own_part(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    parts = []
    for rank in "012":
        monkeypatch.setenv("RANK", rank)
        parts += ranks.share(list(range(6)))
    assert parts == list(range(6))
    with pytest.raises(ValueError, match="7 cannot be divided"):
        ranks.share(list(range(7)))


def test_ranks_draw_with_seeds_of_their_own(monkeypatch):
    assert ranks.seed(7) == 7
    monkeypatch.setenv("RANK", "1")
    near = {ranks.seed(number) for number in range(1000)}
    assert len(near) == 1000 and near.isdisjoint(range(1000))


SPREAD = """
import json, sys
from pathlib import Path
from trlm_utils import ranks

worked = []

def work(items):
    worked.extend(items)
    return [item * item for item in items]

found = ranks.together(work, list(range(7)))
Path(sys.argv[1], str(ranks.rank())).write_text(json.dumps([found, worked]))
"""


def test_each_rank_works_on_a_part_and_all_get_everything(tmp_path):
    """Seven items on two ranks; on one rank the function gets them all."""
    assert ranks.together(lambda items: [-i for i in items], [1, 2, 3]) == [-1, -2, -3]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"ACCELERATE_USE_CPU": "true"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SPREAD, str(tmp_path)],
            cwd=PROJECT_ROOT,
            env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in "01"
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    found = [json.loads((tmp_path / rank).read_text()) for rank in "01"]
    squares = [0, 1, 4, 9, 16, 25, 36]
    assert found == [[squares, [0, 1, 2]], [squares, [3, 4, 5, 6]]]


def test_only_rank_0_writes_to_the_stages_folder(monkeypatch, tmp_path):
    stage = Stage("02_sft_stage1", "nano", 0, tmp_path)
    assert stage.folder == tmp_path / "02_sft_stage1"
    monkeypatch.setenv("RANK", "1")
    assert stage.folder == tmp_path / ".ranks" / "02_sft_stage1" / "1"
    assert stage.checkpoints == tmp_path / "02_sft_stage1" / "checkpoints"  # read by all
    stage.save_model(torch.nn.Linear(1, 1), None)  # would fail if it saved


def test_only_notebooks_that_train_run_on_ranks():
    plan = recipes.load_plan("nano")
    many = torchrun.Ranks(2)
    assert [stage.stage for stage in plan.stages if many.trains(stage)] == [
        "00_start_here",
        "02_sft_stage1",
        "03_sft_stage2",
        "04_dpo",
        "06_grpo",
    ]


@pytest.mark.parametrize(
    "words, said",
    [
        (["--ranks", "-1"], "--ranks is a number"),
        (["--ranks", "2", "--jobs", "2"], "choose one"),
        (["--accelerate", "x.yaml"], "--accelerate is about them"),
        (["--ranks", "2", "--accelerate", "absent.yaml"], "no such file"),
        (["--ranks", "2", "--nnodes", "2"], "several machines: --ranks N --nnodes M"),
        (["--nnodes", "2", "--rdzv-endpoint", "a:1"], "several machines: --ranks N"),
        (["--ranks", "1", "--node-rank", "1"], "machines are numbered from 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words, said, capsys):
    assert command.main(["run", "smoke", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_file_that_accelerate_cannot_read_is_told_before_anything_runs(tmp_path, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text("distributed_type: [FSDP")
    assert command.main(["run", "smoke", "--ranks", "2", "--accelerate", str(path)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "bad.yaml: accelerate cannot use it: " in said[0]


FSDP = "distributed_type: FSDP\nmixed_precision: 'no'\nfsdp_config: {{fsdp_version: {}{}}}\n"
TWO, CARD = FSDP.format(2, ""), machine.Precision(True, False, "")


@pytest.mark.parametrize(
    "device, precision, text, stage, said",
    [
        ("cpu", CARD, TWO, {}, "on accelerators only"),
        ("cuda", CARD, FSDP.format(1, ""), {}, "fsdp_version: 2"),
        ("cuda", CARD, FSDP.format(2, ", fsdp_offload_params: true"), {}, "fsdp_offload_params"),
        ("cuda", machine.Precision(False, True, ""), TWO, {}, "fp16"),
        ("cuda", CARD, TWO, {"stem": "12_algorithms"}, "trains whole models"),
        ("cuda", CARD, TWO, {"ROLLOUTS": "generate"}, "ROLLOUTS course or vllm"),
    ],
)
def test_what_cannot_be_divided_is_told_before_anything_runs(
    tmp_path, monkeypatch, device, precision, text, stage, said
):
    path = tmp_path / "divided.yaml"
    path.write_text(text)
    monkeypatch.setattr(torchrun.machine, "torch_device", lambda: SimpleNamespace(type=device))
    monkeypatch.setattr(torchrun.machine, "detect_device", lambda: ("cuda", "a card"))
    monkeypatch.setattr(torchrun.machine, "choose_precision", lambda *_: precision)
    notebook = Path(stage.pop("stem", "06_grpo"))
    plans = [SimpleNamespace(stages=[recipes.StagePlan("one", notebook, stage, ())])]
    with pytest.raises(RecipeError, match=said):
        torchrun.check(torchrun.Ranks(2, str(path)), plans)
    torchrun.check(torchrun.Ranks(2), plans)  # without a file nothing is divided


def test_zero_3_is_refused_and_zero_2_is_not(monkeypatch):
    monkeypatch.setattr(torchrun.machine, "torch_device", lambda: SimpleNamespace(type="cuda"))
    found = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}
    assert "zero_stage: 2" in torchrun._not_divided(found, [])
    assert torchrun._not_divided(found | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}, []) == ""


def test_a_model_that_is_divided_on_cards_may_run(tmp_path, monkeypatch):
    path = tmp_path / "divided.yaml"
    path.write_text(TWO)
    monkeypatch.setattr(torchrun.machine, "torch_device", lambda: SimpleNamespace(type="cuda"))
    monkeypatch.setattr(torchrun.machine, "detect_device", lambda: ("cuda", "a card"))
    monkeypatch.setattr(torchrun.machine, "choose_precision", lambda *_: CARD)
    torchrun.check(torchrun.Ranks(2, str(path)), [recipes.load_plan("nano")])
    plans = [recipes.load_plan("algorithms")]  # with PPO, which is not asked for here
    torchrun.check(torchrun.Ranks(2, str(path)), plans, only="algo-grpo")


def test_settings_of_accelerate_reach_the_ranks(tmp_path):
    path = tmp_path / "fsdp.yaml"
    path.write_text(
        "distributed_type: FSDP\nnum_processes: 2\nmixed_precision: 'no'\n"
        "fsdp_config:\n  fsdp_version: 2\n  fsdp_state_dict_type: FULL_STATE_DICT\n"
    )
    found = torchrun.accelerate_variables(str(path), 2)
    assert found["ACCELERATE_USE_FSDP"] == "true" and found["FSDP_VERSION"] == "2"


def test_all_ranks_go_on_with_what_rank_0_drew(tmp_path):
    """Before a trainer is made: accelerate then knows nothing of the other ranks."""
    said = (
        "import sys; from pathlib import Path; from trlm_utils import ranks; "
        "drawn = ranks.from_first([ranks.rank()]); ranks.wait(); "
        "Path(sys.argv[1], str(ranks.rank())).write_text(repr(drawn))"
    )
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*line, "--no-python", sys.executable, "-c", said, str(tmp_path)],
        cwd=PROJECT_ROOT,
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == {"0": "[0]", "1": "[0]"}


# --- two processes ----------------------------------------------------------------


def run(folder, *words, ranks=0, wait=True):
    """Run the recipe in a folder of runs; returns the process."""
    line = [sys.executable, "-m", "trlm_utils", "run", str(RECIPE), *words]
    line += ["--ranks", str(ranks)] if ranks else []
    environment = os.environ | {"TRLM_RUNS_DIR": str(folder)}
    if not wait:
        return subprocess.Popen(line, cwd=PROJECT_ROOT, env=environment)
    return subprocess.run(line, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """Folder of runs in which one process has run the whole recipe."""
    folder = tmp_path_factory.mktemp("single")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def double(single, tmp_path_factory):
    """Folder of runs in which two ranks have trained every stage, on the same data."""
    folder = tmp_path_factory.mktemp("double")
    done = run(folder, "--only", "00_start_here", ranks=2)
    assert done.returncode == 0, done.stderr
    shutil.copytree(single / "ranks/01_data_curation", folder / "ranks/01_data_curation")
    done = run(folder, ranks=2)
    assert done.returncode == 0, done.stderr
    return folder


def log_of(folder, stage):
    return pd.read_csv(folder / "ranks" / stage / "log_history.csv").dropna(subset=["loss"])


@pytest.mark.sequence
@pytest.mark.parametrize("stage", TRAINED)
def test_two_ranks_train_as_one_process(single, double, stage):
    one, two = log_of(single, stage), log_of(double, stage)
    assert list(one["step"]) == list(two["step"])
    whole = slice(0, -1)  # the last row holds the epoch's incomplete batch
    assert one["loss"][whole].to_numpy() == pytest.approx(two["loss"][whole].to_numpy(), abs=2e-3)
    assert list(one["num_tokens"][whole]) == list(two["num_tokens"][whole])


@pytest.mark.sequence
def test_the_manifest_counts_the_ranks_and_nothing_of_them_is_left(double):
    run_folder = double / "ranks"
    for stage in (*TRAINED, "06_grpo", "12_algorithms"):
        assert json.loads((run_folder / stage / "manifest.json").read_text())["ranks"] == 2
    assert not list((run_folder / ".ranks").iterdir())
    assert not list(run_folder.glob("*/checkpoints"))


GROUPS = {
    "REWARD_WEIGHTS": {"think_format": 1.0, "brevity": 0.5},
    "PROMPTS_PER_STEP": 4,
    "GROUP_SIZE": 4,
    "MICRO_BATCH": 4,
    "MAX_STEPS": 3,
    "SAVE_STEPS": 9,
    "MAX_NEW_TOKENS": 24,
    "MODEL_FROM": "03_sft_stage2",
}
ALLOWED = {
    "paid more than honest work": "the rewards of this test need no model",
    "completions clipped": "the completions of this test are fixed",
    "zero-variance groups": "the completions of this test are fixed",
}


def work(single, folder, notebook, values, world, **job):
    """Run a notebook on so many ranks without the runner (ranks_worker.py); its stage's folder."""
    for name in ("00_start_here", "01_data_curation", "03_sft_stage2"):
        if not (folder / name).exists():
            shutil.copytree(single / "ranks" / name, folder / name)
    job |= {"notebook": str(PROJECT_ROOT / "notebooks" / f"{notebook}.ipynb")}
    job |= {"parameters": values | {"RUN_DIR": str(folder), "RECIPE": "ranks"}}
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    line = [sys.executable]
    if world > 1:
        line += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    more = {"ACCELERATE_USE_CPU": "true"}
    if job.get("divided"):
        page = (PROJECT_ROOT / "docs" / "cards_and_machines.md").read_text()
        settings = folder / "divided.yaml"
        settings.write_text(re.search("```\n(distributed_type: FSDP.*?)```", page, re.DOTALL)[1])
        more |= torchrun.accelerate_variables(str(settings), world)
    log = folder / "worker.log"
    process = subprocess.Popen(
        [*line, str(WORKER), str(path)],
        cwd=PROJECT_ROOT,
        env=os.environ | more,
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        code = process.wait(timeout=300)
    finally:  # ranks that wait for each other would slow the tests that follow
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert code == 0, log.read_text()[-3000:]
    return folder / values.get("STAGE", notebook)


@pytest.mark.sequence
@pytest.mark.parametrize(
    "notebook, more, columns",
    [
        (
            "06_grpo",
            {"HAND_STEPS": 0, "ALLOW_FAILED": ALLOWED, "REWARDS_FROM": "", "PROBE_PROMPTS": 2},
            ("loss", "grad_norm", "reward_std", "rewards/think_format/mean"),
        ),
        ("12_algorithms", {"CRITIC_STEPS": 1}, ("value_loss", "rewards/think_format/mean")),
    ],
)
def test_groups_rewards_and_gradients_are_those_of_one_process(
    single, tmp_path, notebook, more, columns
):
    logs = {}
    for world in (1, 2):
        folder = tmp_path / str(world) / "ranks"
        place = work(single, folder, notebook, GROUPS | more, world)
        frame = pd.read_csv(place / "log_history.csv")
        logs[world] = frame[frame[columns[-1]].notna()]
    assert len(logs[1]) == len(logs[2]) == 3
    for name in (*columns, "reward", "completions/mean_length", "num_tokens"):
        one, two = logs[1][name].to_numpy(), logs[2][name].to_numpy()
        assert one == pytest.approx(two, rel=1e-3, abs=1e-5), name
    assert logs[1]["reward"].to_numpy()[0] != 0


# --- a model divided among the ranks (FSDP 2) -------------------------------------

SHORT = {
    "02_sft_stage1": {"MODEL_FROM": "00_start_here", "MAX_STEPS": 6, "SAVE_STEPS": 3},
    "04_dpo": {"MODEL_FROM": "03_sft_stage2", "PAIRS": "dataset", "BATCH_SIZE": 8}
    | {"MAX_STEPS": 3, "SAVE_STEPS": 9, "MAX_NEW_TOKENS": 48},
    "06_grpo": GROUPS
    | {"HAND_STEPS": 0, "ALLOW_FAILED": ALLOWED, "REWARDS_FROM": "", "PROBE_PROMPTS": 2}
    | {"LOOK_EVERY": 2},
}


def weights_of(place):
    from safetensors.torch import load_file

    return load_file(place / "model" / "model.safetensors")


@pytest.mark.sequence
@pytest.mark.parametrize("notebook, apart", [("02_sft_stage1", 2e-3), ("04_dpo", 1e-5)])
def test_a_divided_model_learns_what_a_whole_one_does(single, tmp_path, notebook, apart):
    """Muon's steps are made equally long, so rounding counts for more in 02."""
    places = [
        work(
            single, tmp_path / name / "ranks", notebook, SHORT[notebook], world, sampled=True, **how
        )
        for name, world, how in (("whole", 1, {}), ("divided", 2, {"divided": True}))
    ]
    one, two = map(weights_of, places)
    assert one.keys() == two.keys()
    for name, weight in one.items():
        assert weight.shape == two[name].shape
        assert (weight - two[name]).abs().max() < apart, name
    start = weights_of(tmp_path / "whole" / "ranks" / SHORT[notebook]["MODEL_FROM"])
    assert max((one[name] - start[name]).abs().max() for name in one) > 5 * apart


@pytest.mark.sequence
def test_a_divided_policy_gets_the_same_gradients_from_the_same_completions(single, tmp_path):
    values = SHORT["06_grpo"]
    logs = []
    for world in (1, 2):
        folder = tmp_path / str(world) / "ranks"
        place = work(single, folder, "06_grpo", values, world, divided=world > 1)
        frame = pd.read_csv(place / "log_history.csv")
        logs.append(frame[frame["reward_std"].notna()])
    for name in ("grad_norm", "reward", "reward_std", "completions/mean_length"):
        one, two = (log[name].to_numpy() for log in logs)
        assert len(one) == 3 and one == pytest.approx(two, rel=1e-3), name


@pytest.mark.sequence
def test_each_rank_samples_from_a_divided_policy_by_itself(single, tmp_path):
    """Completions end at other steps on the other rank: none may wait for its forward passes.

    With adapters, which are merged into the copy that samples, and into what is saved.
    """
    values = SHORT["06_grpo"] | {"MAX_NEW_TOKENS": 64, "LORA_RANK": 4}
    place = work(single, tmp_path / "ranks", "06_grpo", values, 2, divided=True, sampled=True)
    log = pd.read_csv(place / "log_history.csv")
    assert log["held_out_accuracy"].notna().sum() == 2  # before the first step, after the second
    assert (log["grad_norm"].dropna() > 0).all()
    start = weights_of(tmp_path / "ranks" / "03_sft_stage2")
    end = weights_of(place)
    assert {n: w.shape for n, w in end.items()} == {n: w.shape for n, w in start.items()}
    matrix = "model.layers.0.mlp.up_proj.weight"  # only its adapters were trained
    assert not end[matrix].equal(start[matrix])


@pytest.mark.sequence
def test_a_divided_training_goes_on_from_its_checkpoint(single, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    folder, values = tmp_path / "ranks", SHORT["02_sft_stage1"]
    how = {"divided": True, "sampled": True}
    place = work(single, folder, "02_sft_stage1", values, 2, **how)
    undisturbed = weights_of(place)
    assert [c.name for c in whole_checkpoints(place / "checkpoints")] == [
        "checkpoint-3",
        "checkpoint-6",
    ]
    for left in ("model", "checkpoints/checkpoint-6"):
        shutil.rmtree(place / left)
    for left in ("log_history.csv", "checkpoints/trainer_state.json"):
        (place / left).unlink()
    shutil.rmtree(folder / ".ranks")
    again = weights_of(work(single, folder, "02_sft_stage1", values, 2, **how))
    assert all(again[name].equal(undisturbed[name]) for name in again)


@pytest.mark.sequence
def test_two_machines_train_as_one_process(single, tmp_path):
    """Two torchruns with one process each, that meet on this machine."""
    folder = ready(single, tmp_path, "machines")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--only", "02_sft_stage1", "--nnodes", "2", "--rdzv-endpoint", f"127.0.0.1:{port}"]
    first = run(folder, *words, "--node-rank", "0", ranks=1, wait=False)
    second = run(folder, *words, "--node-rank", "1", ranks=1, wait=False)
    assert first.wait(timeout=240) == 0
    assert second.wait(timeout=30) == 0  # it was told that the run is over
    place = folder / "ranks/02_sft_stage1"
    assert json.loads((place / "manifest.json").read_text())["ranks"] == 2
    one, two = log_of(single, "02_sft_stage1"), log_of(folder, "02_sft_stage1")
    assert one["loss"][:-1].to_numpy() == pytest.approx(two["loss"][:-1].to_numpy(), abs=2e-3)


# --- restarts ---------------------------------------------------------------------


def kill_rank_1(stage_folder, what, signal_number=signal.SIGKILL):
    """Kill rank 1's kernel, or the process that started it, once there is a checkpoint."""
    psutil = pytest.importorskip("psutil")
    runs = str(stage_folder.parent.parent)  # of this test, and of no other training here
    ends = time.time() + 120
    while time.time() < ends:
        if list(stage_folder.glob("checkpoints/checkpoint-*/trainer_state.json")):
            for process in psutil.process_iter():
                try:
                    if what in " ".join(process.cmdline()) and (
                        process.environ().get("RANK") == "1"
                        and process.environ().get("TRLM_RUNS_DIR") == runs
                    ):
                        process.send_signal(signal_number)
                        return
                except psutil.Error:
                    continue
        time.sleep(0.02)
    raise AssertionError("no checkpoint, or no rank 1")


def ready(single, tmp_path, name):
    folder = tmp_path / name
    for stage in ("00_start_here", "01_data_curation"):
        shutil.copytree(single / "ranks" / stage, folder / "ranks" / stage)
    return folder


LONG = ("--only", "02_sft_stage1", "--set", "02_sft_stage1.EPOCHS=8")


@pytest.mark.sequence
@pytest.mark.parametrize("what", ["ipykernel", "runner.torchrun"])
def test_a_killed_rank_is_started_again_and_the_end_is_the_same(single, tmp_path, what):
    whole, killed = ready(single, tmp_path, "whole"), ready(single, tmp_path, "killed")
    assert run(whole, *LONG, ranks=2).returncode == 0
    process = run(killed, *LONG, ranks=2, wait=False)
    kill_rank_1(killed / "ranks/02_sft_stage1", what)
    assert process.wait(timeout=300) == 0
    notebook = (killed / "ranks/02_sft_stage1/notebook.ipynb").read_text()
    assert "went on from step" in notebook or "had ended at step" in notebook
    one, two = log_of(whole, "02_sft_stage1"), log_of(killed, "02_sft_stage1")
    both = one.merge(two, on="step")
    assert len(both) >= 5
    assert both["loss_x"].to_numpy() == pytest.approx(both["loss_y"].to_numpy(), rel=1e-6)


@pytest.mark.sequence
def test_what_two_ranks_began_one_process_goes_on_with(single, tmp_path):
    folder = ready(single, tmp_path, "begun")
    place = folder / "ranks/02_sft_stage1"
    process = run(folder, *LONG, ranks=2, wait=False)
    ends = time.time() + 120
    needed = ("trainer_state.json", "rng_state_0.pth", "rng_state_1.pth")

    def saved():
        found = list(place.glob("checkpoints/checkpoint-*"))
        return [one for one in found if all((one / name).exists() for name in needed)]

    while not saved():
        assert time.time() < ends and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)  # as Ctrl-C
    assert process.wait(timeout=60) == 1
    assert saved()
    done = run(folder, *LONG)
    assert done.returncode == 0, done.stderr
    notebook = (place / "notebook.ipynb").read_text()
    assert "went on from step" in notebook or "had ended at step" in notebook


@pytest.mark.sequence
def test_an_error_is_told_once_with_its_rank_and_nothing_is_started_again(single, tmp_path):
    folder = ready(single, tmp_path, "failing")
    began = time.time()
    done = run(folder, "--only", "02_sft_stage1", "--set", "02_sft_stage1.BATCH_SIZE=9", ranks=2)
    assert done.returncode == 1 and time.time() - began < 120
    last = done.stderr.strip().splitlines()[-1]
    assert "a step's batch of 9 cannot be divided among 2 ranks" in last
    assert last.startswith("error: rank ") and len(done.stderr.strip().splitlines()) == 1
