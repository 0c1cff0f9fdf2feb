"""One rank of a notebook whose completions need no random numbers: ranks_worker.py FILE.

Executes the notebook's code cells with parameters, as papermill does. A completion depends on
its prompt and on how often the prompt occurred before in the same call: a group that is split
between ranks would get other completions. FILE is JSON: notebook, parameters, and optionally
``divided`` (the weights are divided among the ranks) and ``sampled`` (completions are sampled).
"""

import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

LEFT_OUT = {"exercise", "exercise-check", "solution", "colab"}


def fixed(tokenizer):
    """A stand-in for `generation.complete`: every second completion has no closing tag."""
    close, end = (tokenizer.convert_tokens_to_ids(t) for t in ("</think>", tokenizer.eos_token))
    (opened,) = tokenizer("<think>", add_special_tokens=False)["input_ids"]

    def complete(model, prompts, **_):
        seen, drawn = Counter(), []
        for ids in map(tuple, prompts):
            words = list(ids[-(5 + seen[ids] + sum(ids) % 3) :])
            words = [i for i in words if i not in (opened, close, end)]
            middle = [close] if seen[ids] % 2 == 0 else []
            drawn.append([opened, *words, *middle, words[0], end])
            seen[ids] += 1
        return drawn

    return complete


def divide():
    """Let accelerate divide models among ranks on a CPU, as it does on cards alone."""
    from accelerate import state

    kinds = {kind.name: kind for kind in state.DistributedType}
    state.DistributedType = SimpleNamespace(**kinds | {"MULTI_NPU": kinds["MULTI_CPU"]})


def main(path):
    job = json.loads(Path(path).read_text())
    if job.get("divided"):
        divide()
    from IPython.display import display

    from trlm_utils import generation, models, samplers

    values = job["parameters"]
    folder = Path(values["RUN_DIR"]) / values["MODEL_FROM"] / "model"
    if not job.get("sampled"):
        own = fixed(models.load_tokenizer(folder))
        generation.complete = samplers.BY_NAME["course"] = own
    space = {"__name__": "__main__", "display": display}
    for number, cell in enumerate(json.loads(Path(job["notebook"]).read_text())["cells"]):
        tags = set(cell["metadata"].get("tags", []))
        if cell["cell_type"] == "code" and not tags & LEFT_OUT:
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), space)
            if tags & {"settings", "parameters"}:
                space.update(values)
        if "stage" in space and (space["stage"].folder / "log_history.csv").exists():
            weights = list(space["trainer"].model.parameters()) if job.get("divided") else []
            assert all(hasattr(weight, "full_tensor") for weight in weights), "nothing was divided"
            return  # trained


if __name__ == "__main__":
    main(sys.argv[1])
