# syntax=docker/dockerfile:1.7
# The API and the pages: no torch, no GPU, about a quarter of a gigabyte.
FROM python:3.11.13-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /venv && python -m venv /builder
# Every file is one whose hash the locks hold, or the installation ends; a change of our code reuses this layer.
COPY docker/api.lock docker/build.lock docker/
RUN --mount=type=cache,target=/root/.cache/pip \
    /builder/bin/pip install --disable-pip-version-check --require-hashes --no-deps -r docker/build.lock \
    && /venv/bin/pip install --disable-pip-version-check --require-hashes --no-deps -r docker/api.lock
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY worker worker
COPY srr_core srr_core
COPY examples examples
RUN /builder/bin/python -m hatchling build -t wheel -d /dist \
    && /venv/bin/pip install --disable-pip-version-check --no-index --no-deps /dist/*.whl \
    && /venv/bin/pip check \
    && ! /venv/bin/python -c "import torch" 2>/dev/null

FROM python:3.11.13-slim-bookworm
LABEL org.opencontainers.image.title="srr-compression API" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 srr \
    && useradd --uid 10001 --gid srr --create-home --home-dir /home/srr srr \
    && install -d -o srr -g srr /data
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    HF_HUB_DISABLE_IMPLICIT_TOKEN=1 \
    SERVICE_DATA_DIR=/data \
    SERVICE_HOST=0.0.0.0 \
    SERVICE_PORT=8000
USER 10001:10001
WORKDIR /home/srr
VOLUME ["/data"]
EXPOSE 8000
# /livez, not /readyz: a database that is away for a minute is no reason to kill the process that will retry.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=4 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
CMD ["srr", "api"]
