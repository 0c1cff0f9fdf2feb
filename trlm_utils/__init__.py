"""The package behind the course on tiny reasoning language models.

The modules at the top level are shared by all notebooks: nanoworld, chat, answers, models,
generation, stats, plots, stage, and the modules that these need (files, machine). The
subpackages curation, rewards, training and evaluation import them. The subpackage runner
imports all of these, and none of these imports the runner.
"""

__version__ = "0.1.0"
