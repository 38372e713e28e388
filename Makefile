# Two commands for a fresh machine with Python 3.11+ and make:
#   make demo    set up, then run the main job on the built-in sample
#   make test    set up, then every check and every test (except those for a GPU)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SOURCES := pyproject.toml constraints.txt hatch_build.py napari.yaml
export QT_API ?= pyside6

# What Qt, OpenGL and a display without a screen need on Debian and Ubuntu.
QT_PACKAGES := libgl1 libegl1 libopengl0 libdbus-1-3 libfontconfig1 libglib2.0-0 \
    libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 \
    libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-xkb1 libnss3 \
    fonts-dejavu-core
TEST_PACKAGES := xvfb libgl1-mesa-dri xauth

.PHONY: demo test quick lint format wheel bench clean demo-model

demo: $(VENV)/.ready
	$(BIN)/napari-gimp demo $(DEMO)

test: lint wheel
	$(BIN)/python -m pytest -m "not gpu"

quick: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m "not gpu and not slow"

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/.ready-dev
	$(BIN)/python tests/check_wheel.py

bench: $(VENV)/.ready-dev
	$(BIN)/python benchmarks/bench_tiles.py
	$(BIN)/python benchmarks/bench_views.py
	$(BIN)/python benchmarks/bench_memory.py
	$(BIN)/python benchmarks/bench_tissue.py
	$(BIN)/python benchmarks/bench_features.py
	$(BIN)/python benchmarks/bench_store.py
	$(BIN)/python benchmarks/bench_scale.py
	$(BIN)/python benchmarks/bench_start.py
	$(BIN)/python benchmarks/bench_genes.py
	$(BIN)/python benchmarks/bench_scan.py
	$(BIN)/python benchmarks/bench_deformable.py
	$(BIN)/python benchmarks/bench_gimp.py
	$(BIN)/python benchmarks/bench_models.py
	xvfb-run -a -s '-screen 0 1700x1100x24' $(BIN)/python benchmarks/bench_tour.py

# Make the shipped demo model anew (about an hour on two cores).
DEMO_WORDS := --licence "BSD-3-Clause" --description "Demonstration on synthetic \
    slides and genes: tells three made-up breast-like classes apart. It shows how \
    the program works and says nothing about real patients."
demo-model: $(VENV)/.ready
	mkdir -p build/demo-model
	cp examples/demo_model/*.toml build/demo-model/
	cd build/demo-model && B=../../$(BIN)/napari-gimp && \
	  $$B synth cohort --patients 600 --seed 2026 --side-px 2560 && \
	  $$B train pretrain.toml && $$B train finetune.toml && $$B evaluate demo && \
	  $$B export demo --out ../../napari_gimp/checkpoints/demo $(DEMO_WORDS)

clean:
	rm -rf $(VENV) build dist demo-report

# Python with venv: Debian splits it off.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "napari-gimp needs Python 3.11 or newer; give one with PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  $(MAKE) --no-print-directory packages WANTED="python3-venv"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: $(BIN)/python $(SOURCES)
	$(PIP) -c constraints.txt torch
	$(PIP) -c constraints.txt -e '.[all]'
	@$(BIN)/python -c 'import PySide6.QtGui' 2>/dev/null && $(BIN)/python -c 'import ctypes; [ctypes.CDLL(n) for n in ("libGL.so.1", "libEGL.so.1", "libxcb-cursor.so.0", "libxkbcommon-x11.so.0")]' 2>/dev/null || \
	  $(MAKE) --no-print-directory packages WANTED="$(QT_PACKAGES)"
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP) -c constraints.txt -e '.[all,dev]'
	@command -v Xvfb >/dev/null || \
	  $(MAKE) --no-print-directory packages WANTED="$(TEST_PACKAGES)"
	@touch $@

# Install Debian packages as root; elsewhere say the exact command and go on.
.PHONY: packages
packages:
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -q && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(WANTED); \
	else \
	  echo "System libraries are missing. On Debian or Ubuntu: sudo apt-get install $(WANTED)" >&2; \
	fi
