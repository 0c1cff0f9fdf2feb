"""Thin module behind the course on tiny reasoning language models; one noun per file.

What notebooks share lies on top: nanoworld, chat, answers, models, generation, stats,
plots, stage, and what these stand on (files, machine). The rooms use it: curation,
rewards, training, evaluation. The runner uses all of them and is used by none.
"""

__version__ = "0.1.0"
