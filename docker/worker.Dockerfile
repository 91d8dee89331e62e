# syntax=docker/dockerfile:1.7
# The worker: torch brings its own CUDA libraries, so the base image only declares the driver it needs.
FROM nvidia/cuda:13.0.0-base-ubuntu24.04 AS python
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

FROM python AS build
WORKDIR /src
RUN python3 -m venv /venv && python3 -m venv /builder
# Every file is one whose hash the locks hold, or the installation ends; a change of our code reuses these layers.
COPY docker/worker.lock docker/build.lock docker/
RUN --mount=type=cache,target=/root/.cache/pip \
    /builder/bin/pip install --disable-pip-version-check --require-hashes --no-deps -r docker/build.lock \
    && /venv/bin/pip install --disable-pip-version-check --require-hashes --no-deps -r docker/worker.lock
# What torch, which is there and was checked, needs of NVIDIA and triton: the one step without hashes, at the versions
# that torch's own metadata names. `docker/write_locks.py` says why.
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /venv/bin/pip install --disable-pip-version-check -c constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY worker worker
COPY srr_core srr_core
COPY examples examples
RUN /builder/bin/python -m hatchling build -t wheel -d /dist \
    && /venv/bin/pip install --disable-pip-version-check --no-index --no-deps /dist/*.whl \
    && /venv/bin/pip check

FROM python
LABEL org.opencontainers.image.title="srr-compression worker" \
      org.opencontainers.image.licenses="Apache-2.0"
# Triton compiles the launcher of each kernel with the system's C compiler.
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 srr \
    && useradd --uid 10001 --gid srr --create-home --home-dir /home/srr srr \
    && install -d -o srr -g srr /data /scratch
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    HF_HUB_DISABLE_IMPLICIT_TOKEN=1 \
    SERVICE_DATA_DIR=/data \
    WORKER_SCRATCH_DIR=/scratch
USER 10001:10001
WORKDIR /home/srr
VOLUME ["/data", "/scratch"]
STOPSIGNAL SIGTERM
# Asks this container's worker over the broker; its main process answers also while a job runs.
HEALTHCHECK --interval=60s --timeout=25s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import socket, sys; from worker.app import create_app; sys.exit(not create_app().control.broadcast('ping', reply=True, timeout=5, pattern='*@' + socket.gethostname(), matcher='glob'))"]
CMD ["srr", "worker"]
