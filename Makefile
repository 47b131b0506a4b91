# SPDX-License-Identifier: Apache-2.0
# make demo [SOURCE=video|camera index|URL|folder] [DURATION=20] [OUT=demo_out]
# make test [TESTS=test/ros]

PYTHON ?= python3
VENV ?= .venv
SOURCE ?=
DURATION ?= 20
OUT ?= demo_out
TESTS ?= test

.PHONY: demo test setup clean distclean

demo:
	@$(PYTHON) tools/setup_environment.py --for demo --venv $(VENV)
	@$(VENV)/bin/hmr demo --duration $(DURATION) --out "$(OUT)" $(if $(SOURCE),--source "$(SOURCE)")

test:
	@$(PYTHON) tools/setup_environment.py --for test --venv $(VENV)
	@$(VENV)/bin/python -m pytest $(TESTS)

setup:
	@$(PYTHON) tools/setup_environment.py --for test --venv $(VENV)

# What runs have left; the environment and downloads stay.
clean:
	rm -rf build install log dist *.egg-info .pytest_cache .hypothesis "$(OUT)"
	find hmr_ros test launch tools -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) .cache
