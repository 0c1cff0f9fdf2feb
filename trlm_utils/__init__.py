"""Thin module behind the course on tiny reasoning language models; one noun per file.

world, chat, answers, rewards: problems, messages, the one checker, rewards.
models, generation, training, preflight, data: building, sampling, training, curation.
evaluation (with tasks/), stats, plots: measuring and showing.
stage, recipes, pipeline, report, verify, doctor, notebooks: running it all.
"""

__version__ = "0.1.0"
