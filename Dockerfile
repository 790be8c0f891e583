# Two images from one file:
#   docker build --target api -t infill-api .
#   docker build --target worker -t infill-worker .
# The worker image gets the torch that pip's index offers (on x86-64 Linux: with CUDA). For a CPU build name an index
# that has one: --build-arg TORCH_INDEX_URL=...

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --system --uid 10001 --user-group --no-create-home infill \
    && python -m venv /opt/infill
ENV PATH=/opt/infill/bin:$PATH HOME=/tmp
WORKDIR /src
COPY pyproject.toml requirements.txt README.md LICENSE ./
# The dependencies are installed before the code is copied, so that a change of code leaves their layer alone.
RUN mkdir jobs app worker launch


FROM base AS api
RUN pip install -c requirements.txt ".[api]"
COPY jobs jobs
COPY app app
COPY docs docs
RUN pip install --no-deps --force-reinstall . \
    && python -c "import app.main, importlib.util as u; assert u.find_spec('torch') is None"
USER infill
WORKDIR /tmp
ENV INFILL_HOST=0.0.0.0 INFILL_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['INFILL_PORT'] + '/healthz', timeout=4)"]
CMD ["python", "-m", "app"]


FROM base AS worker
ARG TORCH_INDEX_URL=
RUN pip install ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -c requirements.txt "$(grep '^torch==' requirements.txt)"
RUN pip install -c requirements.txt ".[worker,c2pa]"
COPY jobs jobs
COPY worker worker
RUN pip install --no-deps --force-reinstall . \
    && python -c "import worker.main"
# INFILL_COMPILE: torch writes C++, and Triton C, which is compiled at the worker's start.
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ libc6-dev && rm -rf /var/lib/apt/lists/*
# A volume for models from the hub, downloaded once, and for compiled code, which has to be loaded from there: /tmp may be
# mounted noexec. HF_HUB_OFFLINE=1 keeps the worker from the network.
RUN install -d -o infill -g infill /var/cache/infill
USER infill
WORKDIR /tmp
ENV INFILL_METRICS_HOST=0.0.0.0 INFILL_METRICS_PORT=9100 HF_HOME=/var/cache/infill
ENV TORCHINDUCTOR_CACHE_DIR=/var/cache/infill/inductor TRITON_CACHE_DIR=/var/cache/infill/triton
# Freed memory of one shape serves another: pictures of many sizes do not fill the device with gaps.
ENV PYTORCH_ALLOC_CONF=expandable_segments:True
EXPOSE 9100
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['INFILL_METRICS_PORT'] + '/metrics', timeout=4)"]
CMD ["python", "-m", "worker"]
