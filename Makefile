# Needs GNU make, a POSIX shell and Python 3.11, 3.12 or 3.13 with pip and venv. Everything else goes into .venv.
PYTHON ?= python3

# Where this is set, as in many containers, Python compiles TensorFlow and Keras anew in each process: 10 seconds each time.
unexport PYTHONDONTWRITEBYTECODE

# What fits a laptop's CPU: the toy dataset needs no download, the stride layout with the fewest multiply-adds takes a few
# minutes for three epochs, and small batches give enough steps. On a GPU: make run ARGS="-p dataset=cifar10 ..."
CPU_VALUES = -p dataset=toy -p epochs=3 -p layout=cifar-fast -p batch_size=64

PIP_INSTALL = -m pip --disable-pip-version-check install -q

# One line that says why $(PYTHON) does not fit; empty when it does. Debian and Ubuntu ship venv as its own package.
problem = $(shell \
	found=$$($(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null); \
	case "$$found" in \
	(3.11.*|3.12.*|3.13.*) \
		$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || echo "$(PYTHON) (Python $$found) has no venv;" \
			"install it: apt install python3-venv (or python$${found%.*}-venv)";; \
	(*) \
		echo "$(PYTHON) is $${found:+Python }$${found:-not installed}; needed: Python 3.11, 3.12 or 3.13." \
			"Name one: make run PYTHON=python3.12";; \
	esac)

# $(call new_venv,FOLDER): stop unless the folder was once complete or $(PYTHON) can make it; then make it.
# The stamp is the last file written and the first removed, so a half-made folder never counts as complete: it is made
# again. A complete one that is older than the lock is brought up to date in place.
new_venv = $(if $(wildcard $1/.stamp),,$(if $(problem),$(error $(problem))))if test -e $1/.stamp; \
	then rm $1/.stamp; else $(PYTHON) -m venv --clear $1; fi

.PHONY: help run lab test test-fast lint test-backends test-colab test-browser test-faults notebooks execute tables proof bench gpu-kit docs docs-links lock set-repo clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

run: .venv/.stamp  ## train on a CPU in minutes: notebook 07 with small values; change them by ARGS="-p epochs=8"
	@.venv/bin/python -m effnet_utils run 07 --no-trials $(CPU_VALUES) $(ARGS)

# The environment's own kernel before any of the same name that this machine has. Jupyter wants root to be told twice.
lab: .venv/.stamp  ## open the notebooks in JupyterLab, 00 first; without a display, open the address that it prints
	JUPYTER_PREFER_ENV_PATH=1 .venv/bin/python -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) \
		--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(ARGS)

test: lint  ## check the style, then run the tests; choose tests by ARGS="-k scaling"
	.venv/bin/python -m tools.reading
	KERAS_BACKEND=tensorflow .venv/bin/python -m pytest -n 2 --dist loadfile $(ARGS)

test-fast: lint  ## while you work: the style, then the tests that take a second or two; the rest is marked slow
	KERAS_BACKEND=tensorflow .venv/bin/python -m pytest -n 2 --dist loadfile -m "not slow" --durations=5 $(ARGS)

lint: .venv/.stamp  ## in seconds: style, form of the notebooks, their code against the package's, links, spelling
	.venv/bin/python -m ruff check
	.venv/bin/python -m ruff format --check
	.venv/bin/python -m tools.lint

# conftest.py and plugins of the main tests may need TensorFlow, which this environment does not have. At level 0, XLA compiles
# in two thirds of the time.
BACKEND_TESTS = .venv-backends/bin/python -m pytest -n 2 --dist loadfile --confcutdir=tests/backends tests/backends
test-backends: .venv/.stamp .venv-backends/.stamp  ## run the model on JAX and on PyTorch and compare with TensorFlow
	KERAS_BACKEND=tensorflow .venv/bin/python -m tests.backends.tensorflow_maps
	KERAS_BACKEND=jax XLA_FLAGS=--xla_backend_optimization_level=0 $(BACKEND_TESTS)
	KERAS_BACKEND=torch $(BACKEND_TESTS)

# Each Python in an environment with Colab's versions; the notebooks' set-up cell installs the package from a git URL.
COLAB_PYTHONS = 3.12 3.13
test-colab: .venv/.stamp  ## run each notebook alone as on Colab; one Python by COLAB_PYTHONS=3.13
	@echo "Each notebook alone, with Colab's versions, on Python $(COLAB_PYTHONS): a quarter of an hour for each Python"
	COLAB_PYTHONS="$(COLAB_PYTHONS)" .venv/bin/python -m pytest -n 2 tests/notebooks/colab.py $(ARGS)

# With axe-core from npm and the system's Chromium. The longest tests first, and each process takes the next one.
AXE = tests/browser/node_modules/.package-lock.json
test-browser: .venv/.stamp $(AXE)  ## in a browser: notebooks in JupyterLab, the site by keyboard, phone and dark; screenshots
	test -f site/_build/html/index.html || $(MAKE) docs
	KERAS_BACKEND=tensorflow .venv/bin/python -m pytest -n 2 --maxschedchunk=1 \
		tests/browser/lab.py tests/browser/site_pages.py tests/browser/explore.py \
		tests/browser/widgets.py $(ARGS)

test-faults: .venv/.stamp  ## for an hour: kill runs, run many at once, feed damaged files; fewer: ARGS="--kills 2 --runs 8 --record runs/faults.json"
	@echo "Runs killed, disks full, files damaged, many runs at once: an hour or more; a line for each kind when it is done"
	KERAS_BACKEND=tensorflow .venv/bin/python -m tests.faults.run_faults $(ARGS)

notebooks: .venv/.stamp  ## execute the notebooks and store them again, all but the long ones; one by NB=04
	.venv/bin/python -m tools.publish $(NB)

execute: .venv/.stamp  ## execute a long notebook with its defaults and store it: make execute NB=07 ARGS="-p layout=cifar-fast"
	$(if $(NB),,$(error name the notebook: make execute NB=07))
	.venv/bin/python -m tools.publish --code-only $(NB)
	rm -rf runs/execute/$(NB).new
	.venv/bin/python -m effnet_utils run $(NB) -o runs/execute/$(NB).new $(ARGS)
	rm -rf runs/execute/$(NB)
	mv runs/execute/$(NB).new runs/execute/$(NB)
	.venv/bin/python -m tools.publish runs/execute/$(NB)/$(NB)_*.ipynb

tables: .venv/.stamp  ## write the README's tables from the records, and its pictures from package and notebooks
	.venv/bin/python -m tools.measured
	.venv/bin/python -m tools.tables
	.venv/bin/python -m tools.site_pictures
	KERAS_BACKEND=tensorflow .venv/bin/python -m tools.architecture

proof: .venv/.stamp  ## in minutes: compare the networks with keras.applications and write the record of it
	KERAS_BACKEND=tensorflow .venv/bin/python -m tools.proof

# Those that begin with an underscore are what the others share. The file that BENCH names is empty without BENCH.
benchmarks = $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))
benchmark = $(filter benchmarks/$(BENCH).py,$(benchmarks))
bench: $(if $(benchmark),.venv/.stamp)  ## list the benchmarks; run one by BENCH=cost, its arguments by ARGS="--tiny"
	$(if $(BENCH),$(if $(benchmark),,$(error there is no benchmarks/$(BENCH).py; make bench lists what there is)))
	$(if $(BENCH),.venv/bin/python -m benchmarks.$(BENCH) $(ARGS),@for file in $(sort $(benchmarks)); do \
		printf '%-14s %s\n' "$$(basename "$$file" .py)" "$$(sed -n '1s/^"""//p' "$$file")"; done)

gpu-kit: .venv/.stamp  ## what benchmarks/gpu_day.py needs on a GPU without a network: make gpu-kit GPU_DATA=cifar10_jpeg.npz
	$(if $(GPU_DATA),,$(error name the images: make gpu-kit GPU_DATA=cifar10_jpeg.npz))
	.venv/bin/python -m tools.gpu_kit $(GPU_DATA)

SPHINX = .venv/bin/python -m sphinx -q -n -W --keep-going -c site -d site/_build/doctrees site/_build/source
docs: .venv/.stamp  ## make pages of the notebooks, records and docstrings: site/_build/html, which needs no network
	rm -rf site/_build
	.venv/bin/python -m tools.site_pages
	$(SPHINX) site/_build/html
	.venv/bin/python -m tools.site_check site/_build/html

docs-links: .venv/.stamp  ## follow the site's links to other sites, over the network
	.venv/bin/python -m tools.site_pages
	$(SPHINX) site/_build/links -b linkcheck

# Keeps the versions already locked where the ranges allow; LOCK=--upgrade takes the newest.
lock: .venv/.stamp  ## lock the versions of all packages again from pyproject.toml; the newest by LOCK=--upgrade
	.venv/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --no-python-downloads \
		--generate-hashes --no-header --no-annotate -q -o requirements.lock $(LOCK)

set-repo:  ## set the repository's public name everywhere: make set-repo REPO=owner/name
	$(if $(repo_fits),,$(error REPO is $(quoted_repo); expected: make set-repo REPO=owner/name))
	@old=$$(sed -n 's,^Repository = "https://github.com/\(.*\)"$$,\1,p' pyproject.toml | sed 's,[.],[.],g'); \
	test -n "$$old" || { echo "pyproject.toml names no Repository on GitHub" >&2; exit 1; }; \
	edge='[^A-Za-z0-9_.-]'; \
	new="s,(^|$$edge)$$old(([.]git|[.])?($$edge|$$)),\1"$(quoted_repo)"\2,g"; \
	for file in pyproject.toml README.md CITATION.cff site/*.md notebooks/*.ipynb; do \
		test -f "$$file" || continue; \
		sed -E -e "$$new" -e "$$new" "$$file" > "$$file.new" && cat "$$file.new" > "$$file" && rm "$$file.new" || exit 1; \
	done

quoted_repo = '$(subst ','\'',$(REPO))'
repo_fits = $(shell case $(quoted_repo) in \
	(*[!A-Za-z0-9_./-]*|*/*/*|/*|*/|-*|.*|*.git) ;; \
	(*/*) echo yes;; \
	esac)

# What these targets were called before.
.PHONY: faults full site site-links badges
faults: test-faults
full: execute
site: docs
site-links: docs-links
badges: set-repo

clean:  ## remove the environments and caches; data and runs stay
	rm -rf .venv .venv-backends .pytest_cache .ruff_cache .hypothesis dist site/_build ./*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call install,FOLDER,ARGUMENTS): uv does in a seventh of the time what pip does; where it cannot (an index or a proxy that
# only pip is told of), pip does.
install = .venv/bin/python -m uv --no-config pip install -q --python $1/bin/python $2 || { \
		echo "uv could not install them (why, is said above), so pip does"; \
		$1/bin/python $(PIP_INSTALL) $2; }

.venv/.stamp: pyproject.toml requirements.lock
	@echo "Installing the locked packages into .venv (once, 3 GB; a minute, or some with a slow network)"
	@$(call new_venv,.venv)
	@awk '/^uv==/ {on = 1} on {print} on && !/\\$$/ {exit}' requirements.lock > .venv/uv.txt
	@.venv/bin/python $(PIP_INSTALL) --require-hashes -r .venv/uv.txt
	@$(call install,.venv,--require-hashes -r requirements.lock)
	@.venv/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(AXE): tests/browser/package.json tests/browser/package-lock.json
	$(if $(shell command -v npm),,$(error npm is not installed; apt install npm))
	npm ci --prefix tests/browser --no-audit --no-fund --loglevel=error
	@touch $@

# --no-deps for the package itself: its TensorFlow is left out, so that Keras cannot fall back on it.
.venv-backends/.stamp: pyproject.toml requirements-backends.txt | .venv/.stamp
	@echo "Installing JAX and PyTorch into .venv-backends (once, a minute or two)"
	@$(call new_venv,.venv-backends)
	@$(call install,.venv-backends,-r requirements-backends.txt)
	@.venv-backends/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@
