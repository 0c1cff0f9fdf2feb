"""The command line of the course.

    python -m trlm_utils run nano
    python -m trlm_utils run nano --seed 0,1,2
    python -m trlm_utils run nano tina --seed 0,1,2 --jobs 2   # two stages at once
    python -m trlm_utils run nano --ranks 2   # each training on two processes, one to a card
    python -m trlm_utils run nano --seed 1 --set 06_grpo.LEARNING_RATE=2.0e-4
    python -m trlm_utils run nano --set '*.TRACKER=tensorboard'
    python -m trlm_utils submit tina --scale full --slurm partition=main gpus=1
    python -m trlm_utils submit tina --scale full --print sky   # or hf
    python -m trlm_utils status nano   # how far each stage is, whoever started it
    python -m trlm_utils list | doctor | compare | show, report, record or verify RECIPE
    python -m trlm_utils chat runs/nano/03_sft_stage2 runs/nano/06_grpo
    python -m trlm_utils push runs/nano/06_grpo owner/name
    python -m trlm_utils export runs/nano/06_grpo   # --gguf where llama.cpp knows it
    python -m trlm_utils fetch   # finished stages of nano, from the release

Exit status: 0 success, 1 a stage failed, 2 invalid request.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trlm_utils.doctor import examine
from trlm_utils.evaluation import arms
from trlm_utils.files import CourseError, read_json, shown
from trlm_utils.machine import visible_cards
from trlm_utils.runner import (
    clouds,
    parameters,
    probe,
    recipe_file,
    report,
    report_texts,
    times,
    torchrun,
)
from trlm_utils.runner.kernel import RunFailed
from trlm_utils.runner.parameters import RecipeError
from trlm_utils.runner.pipeline import locked, plan_of, run_folder, run_plan
from trlm_utils.runner.recipes import Plan

TELLS = ("list", "show", "status", "doctor")  # only print: `| head` may leave before the end


def build_parser() -> argparse.ArgumentParser:
    """The argument parser of the command line described at the top of this file."""
    parser = argparse.ArgumentParser(
        prog="python -m trlm_utils", description="Run recipes of the course."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a recipe")
    run.add_argument("--from", dest="start", default="", metavar="STAGE")
    run.add_argument("--only", default="", metavar="STAGE")
    run.add_argument("--force", action="store_true", help="run finished stages again")
    run.add_argument(
        "--resume-from",
        default="",
        metavar="FOLDER",
        help="go on from unfinished work, though its inputs changed",
    )
    run.add_argument("--verbose", action="store_true", help="show what notebooks print")
    run.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="run N stages at once, of all seeds"
    )
    run.add_argument(
        "--address", default="", metavar="tcp://HOST:PORT", help="on the workers of this scheduler"
    )
    run.add_argument(
        "--ranks", type=int, default=0, metavar="N", help="train on N processes, one to a card"
    )
    run.add_argument("--nnodes", type=int, default=1, metavar="N", help="of so many machines")
    run.add_argument("--node-rank", type=int, default=0, metavar="N", help="this machine's number")
    run.add_argument(
        "--rdzv-endpoint", default="", metavar="HOST:PORT", help="where machines meet, on number 0"
    )
    run.add_argument(
        "--accelerate", default="", metavar="FILE", help="accelerate's settings for --ranks"
    )
    sent = commands.add_parser("submit", help="hand a recipe to Slurm, or show how to rent a card")
    sent.add_argument(
        "--slurm", nargs="*", default=None, metavar="NAME=VALUE", help="sbatch's: partition=main"
    )
    sent.add_argument("--ranks", type=int, default=0, metavar="N", help="train on N processes")
    sent.add_argument("--dry-run", action="store_true", help="print what would be submitted")
    sent.add_argument(
        "--print", default="", choices=clouds.KINDS, dest="cloud", help="a file or command to use"
    )
    sent.add_argument("--gpu", default="A100", help="card to rent, for --print")
    for name, text in (
        ("show", "print the stages and parameters of a recipe"),
        ("report", "write the report of a run again"),
        ("record", "remember how long a recipe's last run took, for telling the time of others"),
        ("verify", "build a recipe on tiny stand-ins, one step a stage"),
        ("status", "how far each stage of a recipe is, with all seeds"),
    ):
        commands.add_parser(name, help=text)
    for name in ("run", "submit", "show", "report", "record", "verify", "status"):
        command = commands.choices[name]
        number = {"nargs": "+"} if name in ("run", "submit") else {}
        command.add_argument("recipe", help="a recipe's name, or a path to a YAML file", **number)
        default = "full" if name == "verify" else "nano"
        command.add_argument("--scale", default=default)
        if name == "status":
            continue
        command.add_argument("--seed", default="0", help="one, or several: 0,1,2")
        if name == "show":
            command.add_argument("--gpu", default="A100", help="card to estimate for (full scale)")
            command.add_argument("--ranks", type=int, default=1, metavar="N", help="so many cards")
            command.add_argument("--sharded", action="store_true", help="the model divided (FSDP)")
        command.add_argument("--set", action="append", default=[], metavar="S.NAME=VALUE")
    compared = commands.add_parser("compare", help="set the reports of recipes side by side")
    compared.add_argument("recipes", nargs="*", help="names; by default nano and the five systems")
    talks = commands.add_parser("chat", help="ask models of a run, a question a line")
    talks.add_argument("folders", nargs="+", help="stages of a run, as runs/nano/06_grpo")
    talks.add_argument("--temperature", type=float, default=0.0, help="0 is greedy, the default")
    talks.add_argument("--max-new-tokens", type=int, default=160)
    talks.add_argument("--system", default="", help="system message before every question")
    pushes = commands.add_parser("push", help="push a stage's model or data to the Hub, privately")
    pushes.add_argument("folder", help="a stage of a run, as runs/nano/06_grpo")
    pushes.add_argument("name", help="owner/name: the beginning of the repositories' names")
    given = commands.add_parser("export", help="a stage's model as a folder with a model card")
    given.add_argument("folder", help="a stage of a run, as runs/nano/06_grpo")
    given.add_argument("--out", default="", help="new folder; by default exported/ in the run")
    given.add_argument("--gguf", action="store_true", help="also one file for llama.cpp")
    fetched = commands.add_parser("fetch", help="take finished stages of nano from the release")
    fetched.add_argument("place", nargs="?", default="", help="another archive: a path or address")
    commands.add_parser("list", help="list the recipes")
    commands.add_parser("doctor", help="look at this machine")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    options = build_parser().parse_args(arguments)
    try:
        status = _dispatch(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        if options.command not in TELLS:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left of it
        return 0
    except (RecipeError, CourseError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 1


def parse_seeds(text: str) -> list[int]:
    """``"0,1,2"`` -> ``[0, 1, 2]``.

    Raises:
        RecipeError: when it is not a list of different integers >= 0.
    """
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise RecipeError(f"--seed {text}: write a whole number, or several as 0,1,2")
    seeds = [int(part) for part in parts]
    if len(set(seeds)) < len(seeds):
        raise RecipeError(f"--seed {text}: a seed is named twice")
    return seeds


def _dispatch(options: argparse.Namespace) -> int:
    if options.command == "list":
        for name, about in recipe_file.list_recipes().items():
            print(f"{name:<10} {about}")
        return 0
    if options.command == "doctor":
        print(examine().to_string(index=False))
        return 0
    if options.command == "fetch":
        from trlm_utils.runner import released

        print(released.fetch(options.place))
        return 0
    if options.command == "compare":
        from trlm_utils.runner import compare

        folder = compare.write(options.recipes or compare.RECIPES)
        print(f"comparison: {shown(folder / 'compare.html')} (also .json, .csv, .svg and .png)")
        return 0
    if options.command == "chat":
        from trlm_utils.runner import talk

        how = {"temperature": options.temperature, "budget": options.max_new_tokens}
        talk.talk(options.folders, **how, system=options.system)
        return 0
    if options.command == "push":
        from trlm_utils.training import hub

        hub.check(options.name)
        try:
            print("\n".join(hub.upload(Path(options.folder), options.name)))
        except CourseError as error:
            raise RunFailed(str(error)) from None
        return 0
    if options.command == "export":
        from trlm_utils.runner import export

        print(f"exported: {shown(export.export(options.folder, options.out, options.gguf))}")
        return 0
    if options.command == "verify":
        from trlm_utils.runner import verify

        return verify.run(options.recipe, options.scale, options.set)
    if options.command == "status":
        from trlm_utils.runner import status

        print(status.text(options.recipe, options.scale))
        return 0
    if options.command == "run":
        return _run(options)
    if options.command == "submit":
        return _submit(options)
    plan, folder = _plans(options, options.recipe)[0]
    if options.command == "show":
        costs = ""
        if plan.needs_hub or options.scale == "full":
            from trlm_utils.runner import estimate

            costs = f"\n{estimate.text(plan, options.gpu)}"  # before printing: may raise
            if options.ranks > 1:
                from trlm_utils.runner import cluster

                costs += f"\n\n{cluster.text(plan, options.gpu, options.ranks, options.sharded)}"
        show(plan)
        if costs:
            print(costs)
    elif options.command == "record":
        print(times.record(plan, folder, folder / probe.MEMORY))
    else:
        _report(options, options.recipe, plan)
    return 0


def _plans(options: argparse.Namespace, recipe: str) -> list[tuple[Plan, Path]]:
    """The plan and the folder of each seed of a recipe."""
    seeds = parse_seeds(options.seed)
    return [plan_of(recipe, options.scale, seed, options.set) for seed in seeds]


def _run(options: argparse.Namespace) -> int:
    """Run recipes with all seeds, one stage after another or several at once; write reports."""
    planned = {recipe: _plans(options, recipe) for recipe in dict.fromkeys(options.recipe)}
    runs = [one for plans in planned.values() for one in plans]
    many = _ranks(options)
    torchrun.check(many, [plan for plan, _ in runs], options.only)
    if options.resume_from and len(runs) > 1:
        raise RecipeError("--resume-from is about one run: give one recipe and one --seed")
    how = {"start": options.start, "only": options.only, "force": options.force}
    failed = None
    try:
        if options.jobs or options.address:
            _run_together(options, planned, how)
        else:
            how |= {"verbose": options.verbose, "resume_from": options.resume_from, "many": many}
            for plan, folder in runs:
                if len(runs) > 1:
                    print(_name(plan, folder), flush=True)
                if many and many.node:
                    torchrun.join(many, folder)
                    continue
                with locked(folder):
                    run_plan(plan, folder, **how)
    except RunFailed as error:
        if len(runs) == 1:
            raise
        failed = error  # the others are finished, and may be reported
    if many and many.node:
        return 0
    for recipe, plans in planned.items():
        try:
            _report(options, recipe, plans[-1][0])
        except CourseError as error:
            if not failed:
                raise
            print(f"no report of {recipe}: {error}")
    if failed:
        raise failed
    return 0


def _submit(options: argparse.Namespace) -> int:
    """Hand recipes with all seeds to Slurm, or print how a cloud would run them."""
    from trlm_utils.runner import jobs, slurm

    if bool(options.cloud) == (options.slurm is not None):
        raise RecipeError("submit --slurm NAME=VALUE ..., or submit --print sky or hf")
    # first, so that what is wrong is said before a card is rented
    planned = {recipe: _plans(options, recipe) for recipe in dict.fromkeys(options.recipe)}
    if options.cloud:
        words = [*options.recipe, "--scale", options.scale, "--seed", options.seed]
        words += [word for value in options.set for word in ("--set", value)]
        words += ["--ranks", str(options.ranks)] if options.ranks else []
        print(clouds.text(options.cloud, words, options.gpu, max(1, options.ranks)))
        return 0
    runs = []
    for recipe, plans in planned.items():
        for plan, folder in plans:
            request = slurm.Request(recipe, options.scale, plan.seed, tuple(options.set))
            runs.append((request, jobs.Run(plan, folder, _name(plan, folder))))
    slurm.submit(runs, options.slurm, options.ranks, options.dry_run)
    return 0


def _ranks(options: argparse.Namespace) -> torchrun.Ranks | None:
    """The ranks that ``--ranks`` asks for; None for one process."""
    if options.ranks < 0 or (options.accelerate and not options.ranks):
        raise RecipeError("--ranks is a number of processes; --accelerate is about them")
    if options.ranks and (options.jobs or options.address):
        raise RecipeError("--ranks is about one stage at a time, --jobs about many: choose one")
    if options.accelerate and not Path(options.accelerate).is_file():
        raise RecipeError(f"--accelerate {options.accelerate}: no such file")
    if (options.nnodes > 1) != bool(options.rdzv_endpoint) or (options.nnodes > 1) > options.ranks:
        raise RecipeError(
            "several machines: --ranks N --nnodes M --node-rank R --rdzv-endpoint H:P"
        )
    if not 0 <= options.node_rank < options.nnodes:
        raise RecipeError(f"--node-rank {options.node_rank}: machines are numbered from 0")
    if options.nnodes > 1 and (len(options.recipe) > 1 or len(parse_seeds(options.seed)) > 1):
        raise RecipeError("--nnodes is about one run: give one recipe and one --seed")
    cards = len(visible_cards()[1])
    if 0 < cards < options.ranks:
        raise RecipeError(f"--ranks {options.ranks}: this machine has {cards} cards, one for each")
    settings = str(Path(options.accelerate).resolve()) if options.accelerate else ""
    where = (options.nnodes, options.node_rank, options.rdzv_endpoint)
    return torchrun.Ranks(options.ranks, settings, *where) if options.ranks else None


def _name(plan: Plan, folder: Path) -> str:
    """What tells a run from the others, before its lines."""
    return f"{folder.parent.name if plan.seed else folder.name}, seed {plan.seed}"


def _run_together(
    options: argparse.Namespace,
    planned: dict[str, list[tuple[Plan, Path]]],
    how: dict[str, Any],
) -> None:
    from trlm_utils.runner import jobs

    if options.jobs < 0 or (options.jobs and options.address):
        raise RecipeError("--jobs is a number of workers here, --address names workers elsewhere")
    if options.verbose or options.resume_from:
        raise RecipeError("--verbose and --resume-from are about one stage at a time: no --jobs")
    runs = [
        jobs.Run(plan, folder, _name(plan, folder))
        for plans in planned.values()
        for plan, folder in plans
    ]
    jobs.run_together(runs, options.jobs, address=options.address, **how)


def _report(options: argparse.Namespace, recipe: str, plan: Plan) -> None:
    """Write the table of a recipe's arms and its report, over all seeds, and print the ladder."""
    path = recipe_file.find_recipe(recipe)
    name = recipe_file.run_name(path)
    base = run_folder(name, options.scale, 0)
    if plan.groups:
        print(arms.write(plan.groups, base, path.stem))
    if name != path.stem:  # it ran in another recipe's folder; keep that recipe's report
        return
    arms_found = arms.table(plan.groups, base) if plan.groups else None
    written = report.write(plan, base, arms_found)
    print(report_texts.ladder_text(read_json(written / "report.json")))
    print(f"report: {shown(written / 'report.html')} (also .md and .json)")


def show(plan: Plan) -> None:
    """Print a plan: its stages, the earlier stages that they read, and all parameters."""
    print(f"{plan.recipe} ({plan.scale}): {plan.about}")
    for stage in plan.stages:
        reads = ", ".join(stage.reads) or "nothing"
        print(f"\n{stage.stage}  (notebook {stage.notebook.stem}, reads {reads})")
        for name, value in stage.parameters.items():
            if name not in parameters.WIRING:
                print(f"    {name} = {value!r}")
