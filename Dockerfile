# syntax=docker/dockerfile:1
# The worker: serving alone, no torch. The base has Python 3.11 or newer, CUDA and TensorRT, and is named by its digest:
#   docker build --build-arg BASE=REPOSITORY --build-arg BASE_DIGEST=sha256:… --tag adscore:0.1.0 .
#   docker build … --target sbom --output type=local,dest=dist .
ARG BASE=nvidia/cuda
ARG BASE_DIGEST

FROM ${BASE}@${BASE_DIGEST} AS system
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Languages to read; config.ocr.languages chooses among them.
ARG TESSERACT="tesseract-ocr tesseract-ocr-eng tesseract-ocr-deu tesseract-ocr-fra tesseract-ocr-spa tesseract-ocr-ita"
# The base's digest and its distribution fix what apt installs.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 ${TESSERACT} \
    && rm -rf /var/lib/apt/lists/*

FROM system AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# What changes seldom comes first: libraries, then our code, then (below) the bundles.
COPY tools/image.sh tools/image.sh
COPY locks/build.txt locks/serve.txt locks/
RUN tools/image.sh libraries /opt/adscore locks/serve.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY admodels admodels
COPY export export
COPY training training
COPY worker worker
RUN tools/image.sh program /opt/adscore

FROM build AS inventory
COPY locks/sbom.txt locks/
RUN python3 -m venv /opt/sbom \
    && /opt/sbom/bin/pip install --no-cache-dir --require-hashes --requirement locks/sbom.txt \
    && /opt/sbom/bin/cyclonedx-py environment --output-reproducible --output-file /adscore.cdx.json /opt/adscore/bin/python

FROM scratch AS sbom
COPY --from=inventory /adscore.cdx.json /

FROM system AS worker
COPY --from=build /opt/adscore /opt/adscore
COPY models /opt/adscore/models
ENV PATH="/opt/adscore/bin:${PATH}" \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Any user id works; this one isn't anybody's.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=10s --start-period=600s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('ADSCORE_HTTP__PORT', '8080') + '/livez', timeout=5)"]
ENTRYPOINT ["adscore"]
CMD ["worker"]
