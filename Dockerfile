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
RUN pip install -c requirements.txt ".[worker]"
COPY jobs jobs
COPY worker worker
RUN pip install --no-deps --force-reinstall . \
    && python -c "import worker.main"
USER infill
WORKDIR /tmp
ENV INFILL_METRICS_PORT=9100 INFILL_METRICS_HOST=0.0.0.0
EXPOSE 9100
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['INFILL_METRICS_PORT'] + '/metrics', timeout=4)"]
CMD ["python", "-m", "worker"]
