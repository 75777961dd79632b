# `make run` and `make test` set up all they need; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Stamps: what was installed for the pyproject.toml of that moment.
RUN_READY := $(VENV)/.ready-to-run
TEST_READY := $(VENV)/.ready-to-test
NODE_READY := tests/interop/node_modules/.ready

# Compilers for them, and machines that emulate them.
MICROCONTROLLERS := avr-gcc=gcc-avr avr-libc=avr-libc qemu-system-avr=qemu-system-misc \
	arm-none-eabi-gcc=gcc-arm-none-eabi arm-newlib=libnewlib-arm-none-eabi qemu-system-arm=qemu-system-arm \
	simavr-headers=libsimavr-dev arduino-core=arduino-core-avr g++=g++

ARGS ?=
TESTS ?= tests
ROUNDS ?= 25

.PHONY: help setup run test check fmt conformance bench bench-serial fuzz fuzz-firmware firmware hil
.PHONY: torture torture-connections torture-serial torture-volume clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 22

run: $(RUN_READY)  ## start the broker; options go into ARGS="-c FILE"
	@$(BIN)/heliograph run $(ARGS)

test: check $(NODE_READY)  ## check, then every test; some of them with TESTS=tests/unit
	$(BIN)/pytest $(TESTS) $(ARGS)

check: $(TEST_READY)  ## format, lint, types, import contracts, conformance
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.spec.conformance --check

fmt: $(TEST_READY)  ## format the code and put imports in order
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

conformance: $(TEST_READY)  ## write docs/conformance.md anew
	$(BIN)/python -m tests.spec.conformance --write

bench: $(TEST_READY)  ## measure against other brokers; options go into ARGS="--quick"
	@.ci/debian-packages rabbitmq-server=rabbitmq-server
	$(BIN)/python -m tests.performance $(ARGS)

bench-serial: $(TEST_READY)  ## measure the serial gateway on a pty
	$(BIN)/python -m tests.performance.serial $(ARGS)

fuzz: $(TEST_READY)  ## throw damaged packets at the broker; options go into ARGS="--seconds 60"
	$(BIN)/python -m tests.fuzz $(ARGS)

fuzz-firmware: $(TEST_READY)  ## throw damaged bytes at the C client under sanitizers; SECONDS=60
	$(MAKE) -C firmware_sim/mcu fuzz SECONDS=$(or $(SECONDS),60)

torture: $(TEST_READY)  ## kill the broker under load; ROUNDS=25, options into ARGS="--cut power"
	$(BIN)/python -m tests.crash --rounds $(ROUNDS) $(ARGS)

torture-connections: $(TEST_READY)  ## 20,000 clients want in where 5,000 may
	$(BIN)/python -m tests.integration.torture_connections $(ARGS)

torture-serial: $(TEST_READY)  ## a thousand pulled plugs, and kills, around the serial gateway
	$(BIN)/python -m tests.integration.torture_serial $(ARGS)

torture-volume: $(TEST_READY)  ## a million messages wait, a million topics are retained; takes minutes
	$(BIN)/python -m tests.integration.volume $(ARGS)

firmware: $(TEST_READY)  ## build the firmware for all controllers, and print its sizes
	$(MAKE) -C firmware_sim/mcu all sensor simavr sketches

hil: $(TEST_READY)  ## hold the firmware's conversations with real hardware: DEV=/dev/ttyUSB0
	@[ -n "$(DEV)" ] || { echo "Say where the board is: make hil DEV=/dev/ttyUSB0" >&2; exit 1; }
	HIL_DEVICE=$(DEV) $(BIN)/pytest tests/integration/test_emulated_devices.py -k hil $(ARGS)

setup: $(TEST_READY) $(NODE_READY)  ## install what run, test, check and bench need

clean:  ## remove the virtual environment and everything generated
	rm -rf $(VENV) build dist *.egg-info tests/interop/node_modules firmware_sim/mcu/build
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Heliograph needs Python 3.11 or newer; name one with: make PYTHON=python3.x" >&2; exit 1; }
	@PYTHON=$(PYTHON) .ci/debian-packages python-venv=python3-venv
	$(PYTHON) -m venv --clear $(VENV)

$(RUN_READY): pyproject.toml | $(BIN)/python
	@echo "Installing Heliograph into $(VENV) ..."
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --editable .
	@touch $@

$(TEST_READY): pyproject.toml $(RUN_READY)
	@.ci/debian-packages mosquitto=mosquitto mosquitto_pub=mosquitto-clients curl=curl \
		postgres-server=postgresql cc=gcc c-headers=libc6-dev $(MICROCONTROLLERS)
	@echo "Installing what the tests need ..."
	@$(PIP) install --group test --group check
	@touch $@

$(NODE_READY): tests/interop/package.json tests/interop/package-lock.json
	@.ci/debian-packages node=nodejs npm=npm
	@if command -v npm >/dev/null; then \
		cd tests/interop && npm ci --silent --no-audit --no-fund && touch node_modules/.ready; \
	fi
