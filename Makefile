# Needs Python 3.11 or newer, git and make; everything else goes into .venv.
.PHONY: help demo up test check chaos soak attack fuzz setup
.DEFAULT_GOAL := help

PINS := pyproject.toml requirements.txt scripts/setup.sh

help:
	@echo "make demo    set up, remove a straw from a photo, extend it, show the times, stop"
	@echo "make up      set up, serve until Ctrl-C"
	@echo "make test    set up, run the tests"
	@echo "make check   set up, lint and type check"
	@echo "make chaos   set up, ten seeded runs of random faults against the real service"
	@echo "make attack  set up, hostile files and floods against the real service, and what each costs"
	@echo "make fuzz    set up, 5,000 corrupted uploads"
	@echo "make schemathesis  set up, thousands of calls made up from the OpenAPI description, and whether each answer is as described"
	@echo "make soak    set up, 2,000 jobs, and nothing is left in Redis or has grown"
	@echo "make mutants set up, wrong lines in a copy of the code, and whether the tests notice them"

demo: .venv/ready-run
	@.venv/bin/python -m launch demo

up: .venv/ready-run
	@.venv/bin/python -m launch up

test: .venv/ready-dev
	@scripts/test.sh

check: .venv/ready-dev
	@scripts/check.sh

chaos: .venv/ready-dev
	@.venv/bin/python -m tests.e2e.chaos --seeds 10

attack: .venv/ready-dev
	@.venv/bin/python -m tests.attack

fuzz: .venv/ready-dev
	@.venv/bin/python -m tests.attack --fuzz 5000

.PHONY: schemathesis
schemathesis: .venv/ready-dev
	@.venv/bin/python -m tests.description

soak: .venv/ready-dev
	@.venv/bin/python -m tests.e2e.soak --jobs 2000

.PHONY: mutants
mutants: .venv/ready-dev
	@.venv/bin/python -m tests.mutants

setup: .venv/ready-dev

.venv/ready-run: $(PINS)
	@scripts/setup.sh run
	@touch $@

.venv/ready-dev: $(PINS)
	@scripts/setup.sh dev
	@touch $@ .venv/ready-run
