# The images of all services. Build from the root of the repository (BuildKit), for instance:
#   docker build --build-arg SERVICE=renderer --build-arg PORT=50053 --target service .
#   docker build --build-arg SERVICE=motion_gen --target triton .
#   docker build --build-arg SERVICE=renderer --target triton-renderer .
# `service` is a gRPC service; `triton` is the Triton of the speech encoder or the motion generator;
# `triton-renderer` is the renderer's, which also holds the packages of its Python models.
# `triton-gpu` and `triton-renderer-gpu` are the same for nodes with GPUs; they have been built and
# run nowhere yet. All ports are in compose.yaml.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm
# The same release as the tritonclient in constraints.txt.
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.09-py3

# The wheel is the same in all images: code, models and the identity of the build.
FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /build
COPY pyproject.toml setup.py README.md LICENSE NOTICE ./
COPY services services
# The build context holds no git: without a version the wheel gets the fallback of pyproject.toml.
ARG VERSION=
RUN SETUPTOOLS_SCM_PRETEND_VERSION_FOR_TALKINGFACE=${VERSION} \
    pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM ${PYTHON_IMAGE} AS environment
WORKDIR /build
COPY pyproject.toml constraints.txt ./
# Folder of the service below services/. Its extra has the same name, with hyphens.
ARG SERVICE
# The packages come before the wheel, so that a change of code leaves this layer as it is.
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['${SERVICE}'.replace('_', '-')], sep='\n')" > requirements.txt \
    && python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --only-binary=:all: -r requirements.txt -c constraints.txt
COPY --from=wheel /wheels /wheels
# Nothing installs packages at run time.
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl \
    && /opt/venv/bin/pip uninstall --yes setuptools pip

FROM ${PYTHON_IMAGE} AS service
COPY --from=environment /opt/venv /opt/venv
# A volume mounted on one of these takes over the folder's owner.
RUN install -d -o 1000 -g 1000 /var/lib/talkingface/uploads /var/lib/talkingface/portraits
ARG SERVICE
ARG PORT
# The root file system may be read-only: only /tmp is written to, and the stores above.
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    # The libraries of the driver that a container with a GPU gets: `video` is NVENC.
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    HOME=/tmp \
    SERVICE=${SERVICE} \
    TALKINGFACE_HOST=0.0.0.0 \
    TALKINGFACE_PORT=${PORT} \
    TALKINGFACE_METRICS_PORT=9100
# The same user as Triton's: the two share memory, whose segments only their owner may open.
USER 1000:1000
EXPOSE ${PORT} 9100
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-m", "talkingface.serving.health"]
CMD ["/bin/sh", "-c", "exec python -m talkingface.$SERVICE.server"]

FROM ${TRITON_IMAGE} AS triton
ARG SERVICE
COPY services/${SERVICE}/model_repository /models
COPY services/serving/triton/device.py /opt/talkingface/device.py
RUN install -d -o 1000 -g 1000 /var/lib/talkingface/portraits
ENV HOME=/tmp \
    BACKENDS=/opt/tritonserver/backends
USER 1000:1000
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s --retries=3 \
    CMD ["curl", "--fail", "--silent", "http://127.0.0.1:8000/v2/health/ready"]
# /dev/shm outlives a killed Triton in a pod, so what it left there goes first. TALKINGFACE_DEVICE
# decides which configuration of the models is loaded.
CMD ["/bin/sh", "-c", "rm -f /dev/shm/triton_python_backend_shm_region_* && device=$(python3 /opt/talkingface/device.py /models) && exec tritonserver --model-repository=/models --model-config-name=$device --backend-directory=$BACKENDS --exit-on-error=true --allow-client-shm=true"]

# CUDA's ONNX Runtime, and this project's backend for it, which pads batches.
FROM ${TRITON_IMAGE} AS gpu-environment
WORKDIR /build
COPY constraints.txt constraints-gpu.txt ./
COPY services/serving/triton/backends/onnxruntime /opt/talkingface/backends/onnxruntime
RUN cp -r /opt/tritonserver/backends/python /opt/talkingface/backends/python \
    && python3 -m venv --without-pip --system-site-packages /opt/venv \
    && /opt/venv/bin/python -m pip install --no-cache-dir --only-binary=:all: numpy onnxruntime-gpu -c constraints.txt -c constraints-gpu.txt

FROM triton AS triton-gpu
COPY --from=gpu-environment /opt/talkingface/backends /opt/talkingface/backends
COPY --from=gpu-environment /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:${PATH} \
    BACKENDS=/opt/talkingface/backends \
    PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1

# What the renderer's Python models import: packages, and the project itself.
FROM ${TRITON_IMAGE} AS worker-environment
WORKDIR /build
COPY constraints.txt ./
COPY --from=wheel /wheels /wheels
# The Python backend takes the environment of the first `python3` on the PATH; PYTHONPATH it may
# ignore, because it embeds an isolated interpreter.
RUN python3 -m venv --without-pip --system-site-packages /opt/venv \
    && /opt/venv/bin/python -m pip install --no-cache-dir --only-binary=:all: "$(echo /wheels/*.whl)[renderer-worker]" -c constraints.txt \
    && /opt/venv/bin/python -m talkingface.renderer.fetch_assets models

FROM worker-environment AS gpu-worker-environment
COPY constraints-gpu.txt ./
RUN /opt/venv/bin/python -m pip install --no-cache-dir --only-binary=:all: "$(echo /wheels/*.whl)[gpu,renderer-worker]" -c constraints.txt -c constraints-gpu.txt

FROM triton AS triton-renderer-gpu
COPY --from=gpu-environment /opt/talkingface/backends /opt/talkingface/backends
COPY --from=gpu-worker-environment /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:${PATH} \
    BACKENDS=/opt/talkingface/backends \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/tmp/numba \
    NUMBA_NUM_THREADS=1 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1

FROM triton AS triton-renderer
COPY --from=worker-environment /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/tmp/numba \
    NUMBA_NUM_THREADS=1 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1
