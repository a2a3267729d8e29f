# Everything a contributor runs. `make demo` and `make test` are all a user needs.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin

# All packages are pinned in constraints.txt: a change of these files installs anew.
PINS := pyproject.toml setup.py research/pyproject.toml constraints.txt
# `EXTRAS=dev,research` installs torch as well, which a few tests need.
EXTRAS ?= dev
INSTALL := -m pip install --disable-pip-version-check --no-compile --constraint constraints.txt
PACKAGES := $(VENV)/lib/python3*/site-packages
# Tests of other packages, which nobody runs here: the environment stays below 900 MiB without them.
UNUSED = $(PACKAGES)/numba/tests $(PACKAGES)/gevent/tests
# Networks of dlib that the evaluation does not use. The licence of one forbids commercial use.
UNUSED_DEV = $(PACKAGES)/face_recognition_models/models/shape_predictor_*.dat \
	$(PACKAGES)/face_recognition_models/models/mmod_*.dat
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
ASSETS := services/renderer/assets/mediapipe/face_landmark_with_attention.tflite
PORTRAIT := build/demo/astronaut.png

# Each file's tests run in one process, which starts the services that they share.
PYTEST := $(BIN)/python -m pytest --dist loadfile

.PHONY: help bench demo test test-long lint protos test-unit test-services test-mesh test-faults \
	test-deploy test-research test-gpu-code

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: $(RUNTIME) $(ASSETS) $(PORTRAIT)  ## animate a portrait with the demo speech: out/demo.mp4
	$(BIN)/talkingface animate $(PORTRAIT) demo/speech.flac --seed 7 --log out/demo.log -o out/demo.mp4

test: $(DEV) $(ASSETS) $(PORTRAIT)  ## the whole suite, with the real mesh
	$(PYTEST) tests/unit tests/deploy tests/research -n auto
	$(PYTEST) tests/faults tests/mesh tests/services -n 2 --no-loadscope-reorder

test-long: $(DEV) $(ASSETS) $(PORTRAIT)  ## tests of faults and overload many times over, dry runs
	FUZZ_CASES=20000 FAULT_RUNS=24 ROLLING_ROUNDS=5 ISOLATION_SECONDS=300 RESUME_RUNS=20 \
		LADDER_ROUNDS=3 BENCH_GPU_DRY_RUN=1 $(BIN)/python -m pytest tests/faults \
		tests/mesh/test_resume.py tests/mesh/test_degradation.py tests/research/test_bench_gpu.py

test-gpu-code: $(DEV)  ## kernels compiled and assembled for a GPU, without one (0.5 GB of packages)
	$(BIN)/python $(INSTALL) --constraint constraints-gpu.txt 'numba-cuda[cu13]'
	$(PYTEST) tests/unit/renderer/test_cuda.py -k compiles_for_a_gpu -n 0

test-unit: $(DEV) $(ASSETS) $(PORTRAIT)  ## the tests without processes, in parallel
	$(PYTEST) tests/unit -n auto

test-services test-mesh test-faults test-deploy test-research: test-%: $(DEV) $(ASSETS) $(PORTRAIT)
	$(PYTEST) tests/$* -n 2 --no-loadscope-reorder

bench: $(DEV) $(ASSETS) $(PORTRAIT)  ## start, speed and live sessions; AGAINST=REF: ratios
	$(BIN)/talkingface bench start $(PORTRAIT) $(if $(AGAINST),--against $(AGAINST))
	$(BIN)/talkingface bench speed $(PORTRAIT) $(if $(AGAINST),--against $(AGAINST))
	$(BIN)/talkingface bench live $(PORTRAIT) $(if $(AGAINST),--against $(AGAINST))

lint: $(DEV)  ## formatting, lint, types, imports, protos
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	mkdir -p build/typecheck && ln -sfn ../../services build/typecheck/talkingface
	ln -sfn ../../research build/typecheck/talkingface_research
	MYPYPATH=build/typecheck $(BIN)/mypy -p talkingface -p talkingface_research -p tests
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint protos
	$(BIN)/buf format --diff --exit-code protos

protos: $(DEV)  ## regenerate services/v1 from protos/
	rm -rf build/protos && mkdir -p build/protos
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=build/protos --pyi_out=build/protos \
		--grpc_python_out=build/protos protos/talkingface/v1/*.proto
	rm -f services/v1/*_pb2*.py*
	cp build/protos/talkingface/v1/* services/v1/

# Python 3.11 puts an old setuptools into every environment; nothing here needs it at run time.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$@ -m pip uninstall --quiet --yes setuptools

$(RUNTIME): $(PINS) | $(BIN)/python
	$(BIN)/python $(INSTALL) --editable '.[mesh]'
	rm -rf $(UNUSED)
	touch $@

$(DEV): $(PINS) | $(BIN)/python
	$(BIN)/python $(INSTALL) --editable '.[$(EXTRAS)]' --editable research
	rm -rf $(UNUSED_DEV)
	touch $(RUNTIME) $@

$(ASSETS): services/renderer/fetch_assets.py | $(RUNTIME)
	$(BIN)/python -m talkingface.renderer.fetch_assets models
	touch $@

$(PORTRAIT): services/renderer/fetch_assets.py | $(RUNTIME)
	$(BIN)/python -m talkingface.renderer.fetch_assets portrait --to $(@D)
	touch $@
