# Each target is complete on a fresh machine: it makes the virtual environment, installs the project and runs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
PYTHONS ?= 3.11 3.12 3.13
BIN = $(VENV)/bin

quickstart: $(VENV)/installed        ## the main job: a search with its accuracy-versus-local-fraction curve
	$(BIN)/python -m tune.search --preset quickstart --output runs/quickstart --overwrite

test: $(VENV)/installed              ## lint, types and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all:                            ## the same on each of these Pythons that the machine has
	@for version in $(PYTHONS); do \
		python=$$(for each in python$$version $$HOME/.pyenv/versions/$$version.*/bin/python; do \
			$$each --version >/dev/null 2>&1 && echo $$each && break; done); \
		if [ -z "$$python" ]; then echo "Python $$version: not found, not tested"; continue; fi; \
		echo "Python $$version: $$python"; \
		$(MAKE) test VENV=.venv-$$version PYTHON=$$python || exit 1; \
	done

# By pip list, as pip freeze would name local paths.
lock: $(VENV)/installed              ## the versions that were tested, into constraints/, a file a Python
	mkdir -p constraints
	$(BIN)/python -m pip list --format=freeze --exclude-editable --exclude pip --exclude setuptools \
		--exclude wheel > constraints/$$($(BIN)/python -c \
		'import sys; print("py{}{}.txt".format(*sys.version_info))')

slow-test: $(VENV)/installed         ## the tests that train
	$(BIN)/python -m pytest -m slow

docs: $(VENV)/docs-installed         ## the site, into site/; without network once it is installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

$(VENV)/docs-installed: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

.PHONY: quickstart test test-all lock slow-test docs
