# Two commands:  make quickstart  (train, convert, report on a small data set)  ·  make test
# With another torch, in an environment of its own:  make test TORCH=2.6.0 [NUMPY=1.26.4] [PYTHON=python3.13]
# An sdist, and a wheel for Linux x86-64 with glibc 2.28 or newer:  make dist
PYTHON ?= python3
PINS   := $(TORCH:%=torch==%) $(NUMPY:%=numpy==%)
VENV   ?= .venv$(if $(TORCH)$(NUMPY),$(TORCH:%=-torch-%)$(NUMPY:%=-numpy-%)-$(shell $(PYTHON) -c 'import platform; print(platform.python_version())'))
BIN    := $(VENV)/bin

# Tests want the native kernels: always in CI, elsewhere if there is a compiler. "optional" does not.
LEANSPIKE_NATIVE ?= $(if $(CI)$(shell command -v $(CC)),required,optional)

.PHONY: quickstart test test-slow sanitize guided lint docs dist clean

quickstart: $(VENV)/installed-all
	@$(BIN)/leanspike train digits --out runs/quickstart --fresh

test test-slow lint: export LEANSPIKE_NATIVE := $(LEANSPIKE_NATIVE)

# Types are checked against the newest torch only: those of others differ. A process for each core
# has one thread: torch's threads spin while they wait for each other.
# Each of the many processes that tests start would compile all of leanspike again.
test: export OMP_NUM_THREADS := 1
test: export PYTHONDONTWRITEBYTECODE :=
test: $(if $(strip $(PINS)),$(VENV)/installed-dev,lint)
	@$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

test-slow: $(VENV)/installed-dev $(VENV)/installed-dist
	@$(BIN)/python -m pytest -m slow -o faulthandler_timeout=1830

# C programs run under the sanitizers of $(CC), make -j2 sanitize or CC=clang: the kernels and the
# engine's leaves against plain loops, and the engine's reader on files that were changed at random.
# The engine is compiled once under each, for all programs: that takes half a minute.
C       := $(notdir $(CC))
UB      := address,undefined
ENGINE  := $(basename $(notdir $(wildcard src/engine/*.c)))
STRICT  := -std=c11 -O1 -g -Wall -Wextra -Werror -ffp-contract=off -DFEW_KERNELS
KERNELS := sanitize-kernels-$(UB) sanitize-kernels-thread
LEAVES  := sanitize-leaves-$(UB)
FUZZ    := sanitize-fuzz-$(UB) sanitize-fuzz-thread

sanitize: $(LEAVES) $(KERNELS) $(FUZZ)
.PHONY: $(LEAVES) $(KERNELS) $(FUZZ)
.SECONDARY:

$(KERNELS): sanitize-kernels-%: build/kernels-$(C)-%
	@$<

$(LEAVES): sanitize-leaves-%: build/leaves-$(C)-%
	@$< 1 300

sanitize-fuzz-$(UB): SEED_AND_ROUNDS := 1 500
sanitize-fuzz-thread: SEED_AND_ROUNDS := 2 100
$(FUZZ): sanitize-fuzz-%: build/fuzz-$(C)-%
	@$< $(SEED_AND_ROUNDS) tests/engine/version1.leanspike

SANITIZED = mkdir -p $(@D) && $(CC) $(STRICT) -fsanitize=$* -fno-sanitize-recover=all $(filter %.c %.o,$^) -o $@ -lpthread -lm

build/kernels-$(C)-%: $(wildcard src/native/*.[ch] tests/native/*.[ch]) tests/pool.h src/engine/instructions.h
	@$(SANITIZED)

build/fuzz-$(C)-%: tests/engine/fuzz.c tests/pool.h $(foreach name,$(ENGINE),build/engine-$(C)-%/$(name).o)
	@$(SANITIZED)

build/leaves-$(C)-%: tests/engine/leaves.c $(foreach name,$(ENGINE),build/engine-$(C)-%/$(name).o)
	@$(SANITIZED)

define ENGINE_UNDER
build/engine-$(C)-$(1)/%.o: src/engine/%.c $(wildcard src/engine/*.h)
	@mkdir -p $$(@D) && $$(CC) $$(STRICT) -fsanitize=$(1) -fno-sanitize-recover=all -c $$< -o $$@
endef
$(foreach kind,$(UB) thread,$(eval $(call ENGINE_UNDER,$(kind))))

# The engine's reader, by clang's libFuzzer: files that are changed by what code they reach.
SECONDS_GUIDED ?= 60
guided: build/guided
	@mkdir -p build/corpus && cp tests/engine/version1.leanspike build/corpus
	@build/guided -max_total_time=$(SECONDS_GUIDED) -max_len=16384 -artifact_prefix=build/ build/corpus

build/guided: $(wildcard src/engine/*.[ch]) tests/engine/fuzz.c tests/engine/guided.c
	@mkdir -p build && clang -std=c11 -O1 -g -Wall -Wextra -ffp-contract=off -DFEW_KERNELS -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all $(wildcard src/engine/*.c) tests/engine/guided.c -o $@ -lpthread -lm

lint: $(VENV)/installed-dev
	@$(BIN)/ruff check src tests benchmarks docs
	@$(BIN)/ruff format --check src tests benchmarks docs
	@$(BIN)/mypy

docs: $(VENV)/installed-docs
	@$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build
	@echo "docs/_build/index.html" >&2

# Zig compiles and links for an old glibc, whatever that of this system is; auditwheel checks that.
dist: ZIG := $(abspath $(BIN))/python -m ziglang cc -target x86_64-linux-gnu.2.28
dist: $(VENV)/installed-dist
	@rm -rf dist
	@CC='$(ZIG)' LDSHARED='$(ZIG) -shared -s' LEANSPIKE_NATIVE=required $(BIN)/python -m build --quiet --outdir dist/plain
	@PATH="$(abspath $(BIN)):$$PATH" auditwheel repair --only-plat --plat manylinux_2_28_x86_64 --wheel-dir dist dist/plain/*.whl
	@mv dist/plain/*.tar.gz dist && rm -r dist/plain

# uv unpacks on all cores, pip on one. But it does not read what pip was told of indexes and versions:
# where pip was told anything, and where uv fails, pip installs. What nobody imports is not compiled.
# Of leanspike itself uv would not see that its C code has changed.
BY_UV = ! $(BIN)/python -m pip config list | grep -qE '\.(index-url|extra-index-url|no-index|find-links|constraint)=' \
	&& $(BIN)/python -m pip install --quiet uv >&2 \
	&& $(BIN)/uv pip install --quiet --python $(BIN)/python --reinstall-package leanspike --editable '.[$*]' $(PINS) >&2

# The stamp of each environment is newer than what it was installed from, the C code included.
$(VENV)/installed-%: pyproject.toml setup.py libraries.py src/leanspike_runtime/sources.py $(wildcard src/native/*.[ch] src/engine/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "leanspike needs Python 3.11 or newer; try: make PYTHON=python3.11 ...")' >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing leanspike and its dependencies into $(VENV) (torch is large, this can take minutes) ..." >&2
	@$(BY_UV) || $(BIN)/python -m pip install --quiet --no-compile --editable '.[$*]' $(PINS) >&2
	@touch $@

clean:
	rm -rf $(VENV)
