# Everything runs through .venv, which this file makes. Needed beforehand: Python 3.11 or newer, and make.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input
# The checks need a key to load the settings with; it signs nothing.
CHECK_ENV := SECRET_KEY=only-for-checks-$(shell printf '%064d' 0) RATCHET_HOME=$(CURDIR)/var/checks
# Languages other than English, by the names of their directories in locale/; and where no page's words are.
CATALOGUES := -l es -l zh_Hans -l ar
NO_WORDS := --ignore .venv --ignore var --ignore tests --ignore benchmarks --ignore docs --ignore static
PYTEST := $(BIN)/pytest -p no:cacheprovider

.PHONY: help run test test-postgres test-slow check lint format messages bench screenshots clean
.DEFAULT_GOAL := help

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/installed-run ## Start the demo on this machine: web server and trainer, until Ctrl-C (ARGS="--port 9000")
	@RATCHET_DEMO=1 exec $(BIN)/python manage.py up $(ARGS)

test: .venv/installed-dev ## Run the tests on SQLite, in a real browser too where there is one
	@sh tests/browser/install_chromium.sh
	@$(PYTEST) -n 2 --dist loadscope -m "not slow" $(ARGS)

test-postgres: .venv/installed-dev ## Run the database tests on PostgreSQL (DATABASE_URL says which)
	@test -n "$$DATABASE_URL" || { echo "Set DATABASE_URL, for example postgresql://user@127.0.0.1/ratchet."; exit 2; }
	@$(PYTEST) -n 2 --dist loadscope -m "not slow and not browser and not recipes" $(ARGS)

test-slow: .venv/installed-dev ## Run the tests that take minutes
	@$(PYTEST) -n 2 --dist loadscope -m slow $(ARGS)

check: .venv/installed-dev lint ## Check style, types, import rules, migrations and settings
	@$(CHECK_ENV) $(BIN)/mypy
	@$(CHECK_ENV) $(BIN)/lint-imports --no-cache
	@$(CHECK_ENV) $(BIN)/python manage.py makemigrations --check --dry-run
	@$(CHECK_ENV) RATCHET_HTTPS=1 $(BIN)/python manage.py check --deploy --fail-level WARNING

lint: .venv/installed-dev ## Check style alone
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

format: .venv/installed-dev ## Bring the code into the house style
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

messages: .venv/installed-dev ## Collect the words of the pages into locale/ and compile them (needs gettext)
	@command -v msgfmt >/dev/null || { echo "GNU gettext is not installed. On Debian and Ubuntu: apt-get install gettext"; exit 2; }
	@$(CHECK_ENV) $(BIN)/python manage.py makemessages $(CATALOGUES) $(NO_WORDS) --no-obsolete --no-wrap --add-location file
	@$(CHECK_ENV) $(BIN)/python manage.py compilemessages $(CATALOGUES) --ignore .venv --ignore var

bench: .venv/installed-dev ## Measure one turn of the wheel with a simulated rater (minutes)
	@$(BIN)/python -m benchmarks.one_turn

screenshots: .venv/installed-dev ## Take the pictures in docs/images anew, from the running product
	@RATCHET_SCREENSHOTS=1 $(PYTEST) tests/browser/test_wheel.py tests/browser/test_presets.py -k "wheel_turns or preset"

clean: ## Remove .venv and caches; var/, with the database and the runs, stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Ratchet needs Python 3.11 or newer; none was found. Set PYTHON=/path/to/python3."; exit 2; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Making .venv failed. On Debian and Ubuntu: apt-get install python3-venv"; exit 2; }

# A stamp is newer than pyproject.toml when what that file names is installed, so a second start installs nothing.
.venv/installed-run: pyproject.toml | .venv/bin/python
	@echo "Installing Ratchet and its libraries into .venv; the first time takes a few minutes."
	@$(PIP) --editable '.[train]'
	@touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	@echo "Installing Ratchet, its libraries and the test tools into .venv; the first time takes a few minutes."
	@$(PIP) --editable '.[train,dev]'
	@touch $@ .venv/installed-run
