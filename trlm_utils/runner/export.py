"""A stage's model as a folder to give away: `python -m trlm_utils export STAGE_FOLDER`.

Model and tokenizer in the form that transformers reads, a model card, and on request one GGUF
file for llama.cpp.
"""

from __future__ import annotations

from pathlib import Path

from trlm_utils import gguf_file, models
from trlm_utils.evaluation import model_card
from trlm_utils.files import CourseError, from_root, shown, write_text

CARD, GGUF = "README.md", "model.gguf"


def export(stage: str, out: str = "", gguf: bool = False) -> Path:
    """Write the model of a finished stage with its card; returns the folder.

    Args:
        stage: the stage's folder, as ``runs/nano/06_grpo``.
        out: a new or empty folder; by default ``exported/<stage>`` in the run, which is
            replaced.
        gguf: also write ``model.gguf``.

    Raises:
        CourseError: when there is no whole model, a folder in ``out`` is not empty, or the
            model has no form in GGUF (`gguf_file.write`).
    """
    folder = from_root(stage)
    if not (folder / "model").is_dir():
        raise CourseError(f"no model in {shown(folder)}: name a stage, as runs/nano/06_grpo")
    place = from_root(out) if out else folder.parent / "exported" / folder.name
    if out and place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise CourseError(f"--out {shown(place)} is no empty folder: name a new one")
    try:
        model, tokenizer = models.load_model(folder / "model")
    except models.ModelFolderError as error:
        raise CourseError(str(error)) from None
    if gguf:
        gguf_file.check(model, tokenizer)  # before anything is written
    card = model_card.make(folder, GGUF if gguf else "")
    models.save_model(model, tokenizer, place)
    write_text(place / CARD, str(card))
    if gguf:
        gguf_file.write(model, tokenizer, place / GGUF, folder.name)
    return place
