# Every target makes its own environment in .venv; only Python 3.10 or newer is needed beforehand.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# What `make test-release` tries the package with: --constraints .ci/oldest.txt, or --latest.
VERSIONS ?= --constraints constraints.txt
READY  := $(VENV)/.ready

.PHONY: help demo test suite test-learning test-plugins test-release check docs bench clean
help:
	@echo "make demo           train HER+SAC on FetchReach, draw its learning curve, film the agent (about a minute of training)"
	@echo "make test           lint, types and the test suite (some minutes)"
	@echo "make test-learning  train until tasks are solved, several seeds (about 20 min)"
	@echo "make test-plugins   build the wheels, install them into a new environment and use every plugin (about 5 min)"
	@echo "make test-release   build the package, install it elsewhere, test it there without this tree (about 5 min)"
	@echo "make docs           the documentation's site, in build/site; warnings are errors (Python 3.11 or newer)"
	@echo "make check          lint and types only"
	@echo "make bench          the benchmarks, against stock Stable-Baselines3"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "pyrl-sb3 needs Python 3.10 or newer; name one with make PYTHON=python3.11")'
	@echo "== making the environment $(VENV) (once; a few minutes, mostly PyTorch)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet 'pip>=25.1'  # older ones may look for versions for minutes
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[robotics,box2d,highway,report,tensorboard,dev]'
	@touch $@

check: $(READY)
	@echo "== ruff"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@echo "== mypy --strict"
	$(BIN)/mypy

test: check suite

suite: $(READY)
	@echo "== pytest"
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not learning"

test-learning: $(READY)
	@echo "== pytest, the learning tests: each trains until its task is solved"
	$(BIN)/python -m pytest -n 2 -m learning --durations=0

test-plugins: $(READY)
	@echo "== the plugins, from wheels, in a new environment"
	$(BIN)/python tests/plugins/fresh_venv.py

test-release: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt build twine
	$(BIN)/python tests/release/installed.py --dist dist $(VERSIONS)

docs: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@echo "== the site, in build/site"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file docs/site/mkdocs.yml

demo: $(READY)
	@echo "== HER+SAC on FetchReach-v4, with pyrl-sb3's policy and buffer inside stock Stable-Baselines3"
	$(BIN)/python -m pyrl_sb3 demo

bench: $(READY)
	@echo "== replay buffers, ours and SB3's interleaved"
	$(BIN)/python benchmarks/her_buffer.py
	@echo "== gradient steps, rollouts and whole runs, ours and SB3's interleaved"
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/learn.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
