# The commands of daily work.  CMake presets do the building (CMakePresets.json), ctest the
# testing; this file only names the combinations.  `make` alone lists them.
SHELL := /bin/bash
DATA ?= $(or $(MEMFUSE_DATA),data)
FUZZ_SECONDS ?= 60
CTEST := ctest --parallel 2 --output-on-failure
C_FILES = $(shell git ls-files --cached --others --exclude-standard '*.c' '*.h')

.PHONY: help serve test check fast lint asan tsan aarch64 fuzz bench bench-buffers soak \
	bench-peers tidy analyze docs format clean
.NOTPARALLEL:

help: ## this list
	@awk -F ':[a-z -]*## ' '/^[a-z0-9-]+:[a-z -]*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

serve: ## set up, build the release and serve in the foreground (DATA=dir, ARGS='...')
	@tools/setup.sh --data '$(DATA)' packages model
	@tools/build.sh release memfuse
	@exec build/release/memfuse serve --data '$(DATA)' $(ARGS)

# What building and testing need; says and does nothing when it is all there.
.PHONY: tools-ready
tools-ready:
	@tools/setup.sh --data data packages model tests

test: tools-ready ## set up, then every test, and most again under the sanitizers
	@tools/run_tests.sh

check: test ## lint and tests, what CI runs; lint is among the tests

fast: tools-ready ## the inner loop: incremental build and unit tests
	@tools/build.sh dev
	@$(CTEST) --test-dir build/dev --label-regex '^unit$$' --progress

lint: tools-ready ## only the checks on the source: floors, banned calls, headers, formatting
	@tools/build.sh dev build.ninja
	@$(CTEST) --test-dir build/dev --label-regex '^lint$$'

asan: tools-ready ## tests under the address and undefined-behaviour sanitizers
	@tools/run_tests.sh asan

tsan: tools-ready ## tests under the thread sanitizer
	@tools/run_tests.sh tsan

aarch64: tools-ready ## build for 64-bit ARM and run unit and golden tests in emulation
	@tools/aarch64.sh

fuzz: tools-ready ## each fuzz target for FUZZ_SECONDS (60), from its corpus
	@tools/build.sh fuzz
	@tools/run_fuzz.sh '$(FUZZ_SECONDS)'

bench: ## set up, build the release and print the measured figures
	@tools/setup.sh --data '$(DATA)' packages model
	@tools/build.sh release bench

bench-buffers: ## buffers, tiers, bounds, many users (SECONDS=60); REPLAY=FILE: cache hits too
	@tools/setup.sh --data '$(DATA)' packages model
	@tools/build.sh release bench_buffers memfuse
	@build/release/bench_buffers build/release \
	    $(if $(filter command line,$(origin SECONDS)),'$(SECONDS)',60) $(ARGS)
	@$(if $(REPLAY),bench/replay_queries.py build/release/memfuse \
	    '$(DATA)/models/all-MiniLM-L6-v2' '$(REPLAY)',true)

soak: ## mixed load for SECONDS (3600): is anything lost, does memory grow? (ARGS='...')
	@tools/setup.sh --data '$(DATA)' packages model
	@tools/build.sh release memfuse
	@python3 bench/soak.py build/release/memfuse '$(DATA)/models/all-MiniLM-L6-v2' \
	    '$(DATA)/models/o200k_base.tiktoken' --folder build \
	    --csv build/soak.csv \
	    $(if $(filter command line,$(origin SECONDS)),--seconds '$(SECONDS)') $(ARGS)

bench-peers: ## other runtimes of the model beside it (bench/peers; gigabytes, ARGS='...')
	@tools/setup.sh --data '$(DATA)' packages model peers
	@tools/build.sh release libmemfuse bench_products
	@build/release/bench_products
	@build/peers/venv/bin/python bench/peers/run.py --library build/release/libmemfuse.so \
	    --model '$(DATA)/models/all-MiniLM-L6-v2' --build build/peers $(ARGS)

tidy: tools-ready ## clang-tidy and cppcheck over the sources (minutes)
	@tools/build.sh dev
	@run-clang-tidy -quiet -p build/dev '/src/.*\.c$$'
	@cppcheck --project=build/dev/compile_commands.json --quiet --inline-suppr \
	    --enable=warning,performance,portability --error-exitcode=1 \
	    --suppress='*:*_test.c' --suppress='syntaxError:*.def' --suppress=missingIncludeSystem

analyze: tools-ready ## gcc's static analyser over the sources (minutes)
	@tools/build.sh analyze

docs: tools-ready ## rewrite the pages that derive from tables
	@tools/build.sh dev memfuse
	@build/dev/memfuse config --format markdown >docs/settings.md
	@build/dev/memfuse config --format yaml >config/memfuse.yaml
	@tools/cli_reference build/dev/memfuse >docs/cli.md
	@tools/metrics_reference build/dev/memfuse >docs/metrics.md

format: ## lay out every C file as .clang-format says
	@clang-format -i $(C_FILES)

clean: ## remove what was built; the data and the test environment stay
	@rm -rf build
