# `make demo` and `make test` do all the set-up by themselves; `make help` lists the rest.

VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
CODE := neurobench drivers protocols gui sim_instruments
# Two workers on two cores: a BLAS with threads of its own would only get in their way.
ONE_THREAD := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# Tests wait for the disk tens of thousands of times, because what they test does; in memory that takes no time. There
# only the files of tests that failed are kept.
ROOMY := [ "$$(df -k --output=avail /dev/shm | tail -n 1)" -gt 2000000 ] && [ -w /dev/shm ] && echo /dev/shm
MEMORY := $(shell { $(ROOMY); } 2>/dev/null)
IN_MEMORY := $(if $(MEMORY),PYTEST_DEBUG_TEMPROOT=$(MEMORY))
KEEP_FEW := $(if $(MEMORY),-o tmp_path_retention_policy=failed)
# Hundreds of processes are started: without what Python keeps of a source, each compiles it for itself.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo gui test test-x soak faults oracles bench gateware pictures screenshots lint format types setup clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(STAMP) ## two emulated crossbars, made from published measurements, learn in front of you
	$(BIN)/neurobench demo

gui: $(STAMP) ## the window, with an emulated chip
	$(BIN)/neurobench gui

test: $(STAMP) ## the tests, some minutes
	$(ONE_THREAD) $(IN_MEMORY) $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(KEEP_FEW)

# Which of the window's tests: .ci/run takes those of mouse, keys and painting.
X_TESTS ?= tests/gui
test-x: $(STAMP) ## the window's tests once more on an X server (needs the packages of .ci/x-packages)
	$(ONE_THREAD) $(IN_MEMORY) QT_QPA_PLATFORM=xcb xvfb-run -a -s "-screen 0 1600x1000x24" \
		$(BIN)/pytest $(X_TESTS) -n $(JOBS) --dist loadfile $(KEEP_FEW)

soak: $(STAMP) ## the slow tests: crashes, power cuts, statistics
	$(ONE_THREAD) $(BIN)/pytest -m slow --timeout 3600

faults: $(STAMP) ## the fault campaigns: 10,000 faults on the VISA bench, 100,000 commands and a million strings on the FPGA bench
	$(ONE_THREAD) $(BIN)/python tests/faults/campaign.py
	$(ONE_THREAD) $(BIN)/python tests/fpga/fpga_campaign.py
	$(ONE_THREAD) $(BIN)/python tests/fpga/fuzz.py

oracles: $(STAMP) .oracles/.ready ## ask Brian2 and NEST whether our networks do what they do (an environment of its own), some minutes
	$(ONE_THREAD) NEUROBENCH_BRIAN=$(CURDIR)/.oracles/bin/python NEUROBENCH_NEST=$(CURDIR)/.oracles/bin/python \
		$(BIN)/pytest -m slow --timeout 3600 \
		tests/learning/test_loop_golden.py tests/learning/test_recurrent_golden.py

bench: $(STAMP) ## the speed measurements, one BLAS thread
	$(ONE_THREAD) $(BIN)/pytest tests/benchmarks -m bench -s --timeout 1800

gateware: $(VENV)/.gateware ## the FPGA's gateware: Verilog, bitstream, what it takes of an iCE40 HX8K, some minutes
	$(BIN)/python -m neurobench.sim_instruments.gateware.build

pictures: $(STAMP) ## the pictures of the README
	$(BIN)/python docs/make_pictures.py

screenshots: $(STAMP) ## every screen of the window, light and dark, for the docs
	QT_QPA_PLATFORM=offscreen $(BIN)/python docs/make_screenshots.py

lint: $(STAMP) ## style and likely bugs
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(STAMP) ## rewrite the code in the one format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# The mapped folders are checked as what they are in the checkout: each imports only the core and itself.
types: $(STAMP) ## mypy --strict over all production code
	$(BIN)/mypy --strict $(CODE)

setup: $(STAMP) ## only the environment

$(STAMP): pyproject.toml .ci/setup .ci/qt-packages
	.ci/setup $(VENV)
	@touch $@

# Brian2 2.9 needs a numpy below 2, so it cannot live with us.
.oracles/.ready:
	$(BIN)/python -m venv .oracles
	.oracles/bin/python -m pip install --quiet --disable-pip-version-check 'brian2==2.9.0' 'numpy<2' setuptools \
		'nest-simulator==3.10.0'
	@touch $@

$(VENV)/.gateware: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[gateware]'
	@touch $@

clean: ## remove what was made; the runs and the environment stay
	rm -rf $(STAMP) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(CODE) tests -name __pycache__ -type d -prune -exec rm -rf {} +
