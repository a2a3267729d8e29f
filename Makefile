# Everything a contributor runs. `make demo` and `make test` are all a user needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: protos lint

protos:  ## regenerate services/v1 from protos/
	rm -rf build/protos && mkdir -p build/protos
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=build/protos --pyi_out=build/protos \
		--grpc_python_out=build/protos protos/talkingface/v1/*.proto
	rm -f services/v1/*_pb2*.py*
	cp build/protos/talkingface/v1/* services/v1/

lint:  ## formatting, lint, types, protos
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	mkdir -p build/typecheck && ln -sfn ../../services build/typecheck/talkingface
	MYPYPATH=build/typecheck $(BIN)/mypy -p talkingface
	$(BIN)/buf lint protos
	$(BIN)/buf format --diff --exit-code protos
