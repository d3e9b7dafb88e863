# Two commands are the whole set-up:
#   make demo   the whole of MiMix on real footage
#   make test   all tests
# Both make .venv first: pinned packages (constraints.txt) and nothing from this machine but Python.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
DEMO := demo/workspace

# Compiled bytecode halves the start of every process, so let it be written.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo miniature test e2e lint drills perf sbom clean clean-demo

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "MiMix needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up $(VENV): packages pinned in constraints.txt, about two minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN)/pip install -qq -c constraints.txt pip setuptools wheel
	@$(RUN)/pip install -qq -c constraints.txt torch
	@$(RUN)/pip install -qq -c constraints.txt --no-build-isolation -e '.[all,dev]'
	@SAM2_BUILD_CUDA=0 $(RUN)/pip install -qq -c constraints.txt --no-build-isolation --no-deps sam2
	@touch $@

demo: setup
	@$(RUN)/python demo/footage.py demo/footage
	@$(RUN)/python demo/models.py demo/models
	@PREFECT_HOME=$(abspath $(DEMO)/prefect) $(RUN)/mimix run demo/mimix.yaml
	@$(RUN)/python -m miniature.demo $(DEMO)/miniature

# The whole study of docs/miniature.md; needs a GPU. On two H200s: 40 s of drawing, 2 minutes of
# curation, 4 of latents, then about 2 minutes of both GPUs for each of 75 arms and seeds. What is
# finished is not computed again.
MINIATURE := demo/miniature
miniature: setup
	@test -d $(MINIATURE)/flat-friends || $(RUN)/python -m miniature.episodes $(MINIATURE) \
		--episodes 40 --shots 24 --device cuda --workers 8
	@test -f $(MINIATURE)/library-joint-renders.yaml || $(RUN)/python -m miniature.crossovers $(MINIATURE) \
		--device cuda --workers 8
	@PREFECT_HOME=$(abspath $(MINIATURE)/prefect) $(RUN)/python -m miniature.study.run $(MINIATURE)
	@$(RUN)/python -m miniature.study.figures $(MINIATURE)/arms/videos.json
	@$(RUN)/python -m miniature.study.addition_figures $(MINIATURE)/arms/videos.json \
		--trainings $(MINIATURE)/arms/trainings.json
	@$(RUN)/python -m miniature.study.held_out_figures $(MINIATURE)/arms/trainings.json
	@$(RUN)/python -m miniature.study.page $(MINIATURE)/arms/videos.json $(MINIATURE)/study.html

test: setup
	@$(RUN)/python demo/footage.py demo/footage
	@$(RUN)/python demo/models.py demo/models
	@$(RUN)/pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not drill and not e2e"

# Bars at full size: a thousand clips, a corpus of broken files, a server with workers and a browser.
e2e: setup
	@$(RUN)/python demo/footage.py demo/footage
	@$(RUN)/python demo/models.py demo/models
	@$(RUN)/pytest -m "e2e and not drill"

# Longer ones: a kill in the middle of every stage, a whole run with one more episode, ten minutes of
# outages of the server and killed workers (perf/outages.py measures an hour).
drills: setup
	@$(RUN)/python demo/footage.py demo/footage
	@$(RUN)/python demo/models.py demo/models
	@$(RUN)/pytest -m drill
	@$(RUN)/python perf/outages.py --minutes 10 --dry

lint: setup
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check .
	@$(RUN)/mypy

perf: setup
	@$(RUN)/python perf/demo.py
	@$(RUN)/python perf/curate.py
	@$(RUN)/python perf/captions.py
	@$(RUN)/python perf/masks.py
	@$(RUN)/python perf/composites.py
	@$(RUN)/python perf/orchestration.py
	@$(RUN)/python perf/scale.py
	@$(RUN)/python perf/studio.py

sbom: setup
	@$(RUN)/python perf/sbom.py --out sbom.json

clean-demo:
	rm -rf $(DEMO) demo/footage demo/models

clean: clean-demo
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache
