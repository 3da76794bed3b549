# From a fresh clone each target installs what it needs, and reuses it the next time. `make` alone lists the targets.
# Paths are relative and quoted, so that a checkout may lie under a path with a space. `exec` lets a signal that make
# passes on reach the program itself; tools/guard.py and tools/stack.py then leave nothing of it behind.
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv/bin/python
GUARD := -I -S tools/guard.py --grace 30 --
STACK := exec $(VENV) tools/stack.py
# Read by the shell, not by make: whatever is in them, it isn't split or expanded.
export INPUT MINUTES BASE

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

.PHONY: setup
setup: ## install everything into .venv: worker, training, export, tests
	@exec "$(PYTHON)" $(GUARD) "$(PYTHON)" tools/install.py all

.PHONY: setup-serve
setup-serve: ## install only what serving needs (no torch)
	@exec "$(PYTHON)" $(GUARD) "$(PYTHON)" tools/install.py serve

.PHONY: demo
demo: setup-serve ## score real creatives through Kafka, write demo/report.html (INPUT=folder or JSONL for your own)
	@$(STACK) run -- $(VENV) -m demo $${INPUT:+--input "$$INPUT"}

.PHONY: up
up: setup-serve ## start Kafka and Redis on loopback, print what to export: eval "$(make -s up)"
	@$(STACK) up -- $(VENV) -m worker topics create

.PHONY: down
down: ## stop them and drop their data
	@test ! -x $(VENV) || $(STACK) down

.PHONY: test
test: setup ## run the tests, real broker and Redis included (ARGS=… for pytest)
	@exec $(VENV) $(GUARD) $(VENV) -m pytest $(ARGS)

.PHONY: fuzz
fuzz: setup ## look for inputs that break event parsing, image guards or the manifest reader (MINUTES=3)
	@exec $(VENV) $(GUARD) $(VENV) -m tests.fuzz --minutes "$${MINUTES:-3}"

.PHONY: lint
lint: setup ## ruff, mypy, import-linter
	@$(VENV) -m ruff check .
	@$(VENV) -m ruff format --check .
	@$(VENV) -m mypy
	@.venv/bin/lint-imports

.PHONY: chart
chart: setup ## check the chart: lint, render, Kubernetes' and the operators' schemas, pod security (ARGS=… for pytest)
	@exec $(VENV) $(GUARD) $(VENV) -m pytest tests/charts $(ARGS)

.PHONY: locks
locks: setup ## pin every library of the images anew, with hashes, in locks/
	@$(VENV) -m tools.locks

.PHONY: sbom
sbom: setup-serve ## write dist/adscore.cdx.json, the worker's libraries as CycloneDX
	@$(VENV) -m tools.locks sbom

.PHONY: docs
docs: setup ## write what is made from the code: docs/settings.md, docs/metrics.md, parts of the chart
	@$(VENV) -m tools.docs

.PHONY: bundles
bundles: setup ## make every bundle in models/ again: export the encoders, train and export the heads (half an hour)
	@$(VENV) $(GUARD) $(VENV) -m export encoder mobilenetv2 --replace
	@$(VENV) $(GUARD) $(VENV) -m export encoder minilm --replace
	@$(VENV) $(GUARD) $(VENV) -m training fit training/configs/dbafn-generated.toml --root data/osie --out runs/dbafn
	@$(VENV) $(GUARD) $(VENV) -m export bundle runs/dbafn --replace
	@$(VENV) $(GUARD) $(VENV) -m training fit training/configs/fgmfn-generated.toml --root data/osie --out runs/fgmfn
	@$(VENV) $(GUARD) $(VENV) -m export bundle runs/fgmfn --replace
	@$(VENV) $(GUARD) $(VENV) -m training fit training/configs/adfusion-generated.toml --root data/osie --out runs/adfusion
	@$(VENV) $(GUARD) $(VENV) -m export bundle runs/adfusion --replace

.PHONY: bench
bench: bench-parts ## measure each part, then the whole worker on Kafka and Redis against its bare engines
	@$(STACK) run -- $(VENV) -m worker bench throughput --broker

.PHONY: bench-parts
bench-parts: setup ## measure each part: p50, p95, p99, and .benchmarks/latency.json (ARGS=… for pytest)
	@mkdir -p .benchmarks
	@exec $(VENV) $(GUARD) $(VENV) -m pytest benchmarks -o 'python_files=bench_*.py' --benchmark-json=.benchmarks/latency.json $(ARGS)

.PHONY: bench-gate
bench-gate: setup ## is this tree slower than another commit? (BASE=origin/main ARGS=… for benchmarks.gate)
	@exec $(VENV) $(GUARD) $(VENV) -m benchmarks.gate --base "$$BASE" $(ARGS)

.PHONY: faults
faults: setup ## play the fault matrix on a real cluster, an hour (CELLS="broker-* …" SEED=… ARGS=… for tests.faults.matrix)
	@exec $(VENV) $(GUARD) $(VENV) -m tests.faults.matrix $(if $(SEED),--seed "$$SEED") $(ARGS) $(if $(CELLS),-- $(foreach cell,$(CELLS),'$(cell)'))

.PHONY: soak
soak: setup ## a worker under load with a fault every 15 s (MINUTES=30 ARGS=… for tests.faults.soak)
	@exec $(VENV) $(GUARD) $(VENV) -m tests.faults.soak --minutes $(or $(MINUTES),30) $(ARGS)

.PHONY: results-quick
results-quick: setup ## a small version of every table of docs/results: few rows, one seed, two epochs (DATA=folder of the sets)
	@exec $(VENV) $(GUARD) $(VENV) -m training.results quick --data "$${DATA:-../shared/data}" --out runs/quick
