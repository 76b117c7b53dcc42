# Two images from one file: --target scheduler and --target worker. Both run as UID 65532 without privileges, with a read-only root
# file system; only /tmp is writable. Packages come from the locks in requirements/, by hash.
ARG BASE=docker.io/library/python:3.13-slim

# ---------------------------------------------------------------- builders

FROM ${BASE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
# tini reaps orphaned processes and forwards SIGTERM.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/*
# An environment without pip; the pip of the base image installs into it.
RUN python3 -m venv --without-pip /opt/mlho
WORKDIR /src

FROM builder AS scheduler-packages
COPY requirements/scheduler.txt requirements/
RUN pip --python /opt/mlho/bin/python install --require-hashes --only-binary=:all: --requirement requirements/scheduler.txt
COPY mlho /opt/mlho/lib/python3.13/site-packages/mlho
COPY scheduler /opt/mlho/lib/python3.13/site-packages/scheduler
# A scheduler knows steps by name and never runs one, so it needs no library that computes. Tests of packages are removed.
RUN find /opt/mlho/lib -depth -type d \( -name tests -o -name test \) -path '*/site-packages/*/*' -exec rm -rf {} + \
    && find /opt/mlho/lib -name '*.pyi' -delete \
    && /opt/mlho/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/mlho/lib \
    && printf '%s\n' '#!/opt/mlho/bin/python' 'import sys' 'from scheduler.cli.parser import main' \
      'if __name__ == "__main__":' '    sys.exit(main())' > /opt/mlho/bin/mlho \
    && chmod 755 /opt/mlho/bin/mlho
ARG VERSION=0.1.0
# Metadata of the package, from which Python's tools read its version.
RUN mkdir "/opt/mlho/lib/python3.13/site-packages/mlho_batch-${VERSION}.dist-info" \
    && printf 'Metadata-Version: 2.4\nName: mlho-batch\nVersion: %s\n' "${VERSION}" \
      > "/opt/mlho/lib/python3.13/site-packages/mlho_batch-${VERSION}.dist-info/METADATA"

FROM builder AS worker-packages
COPY requirements/worker.txt requirements/
RUN pip --python /opt/mlho/bin/python install --require-hashes --only-binary=:all: --requirement requirements/worker.txt
# Tests, headers and type stubs of the packages are not needed here.
RUN find /opt/mlho/lib -depth -type d \( -name tests -o -name include \) -path '*/site-packages/*/*' -exec rm -rf {} + \
    && find /opt/mlho/lib \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.a' \) -delete \
    && /opt/mlho/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/mlho/lib
COPY mlho /opt/mlho/lib/python3.13/site-packages/mlho
COPY scheduler /opt/mlho/lib/python3.13/site-packages/scheduler
COPY worker /opt/mlho/lib/python3.13/site-packages/worker
# Machine code for any processor of this architecture, not for that of the builder, so that the cache is valid on every node. No
# difference in speed could be measured (ranking 56,000 x 5,000: 1.0 to 1.4 s either way).
ENV NUMBA_CPU_NAME=generic NUMBA_CACHE_DIR=/opt/mlho/numba-cache
# A small run compiles every function that a run needs. It is also the first test of the image.
RUN /opt/mlho/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/mlho/lib \
    && printf '%s\n' '#!/opt/mlho/bin/python' 'import sys' 'from scheduler.cli.parser import main' \
      'if __name__ == "__main__":' '    sys.exit(main())' > /opt/mlho/bin/mlho \
    && chmod 755 /opt/mlho/bin/mlho
ARG VERSION=0.1.0
RUN mkdir "/opt/mlho/lib/python3.13/site-packages/mlho_batch-${VERSION}.dist-info" \
    && printf 'Metadata-Version: 2.4\nName: mlho-batch\nVersion: %s\n' "${VERSION}" \
      > "/opt/mlho/lib/python3.13/site-packages/mlho_batch-${VERSION}.dist-info/METADATA"
WORKDIR /tmp/warm
RUN /opt/mlho/bin/mlho demo --patients 400 --folder data --store store --workers 2 \
    && rm -rf /tmp/warm
# Numba uses only a cache that it can write to, so each container gets a copy (70 files, 2 MB). The text in single quotes is the
# script; its variables are expanded by the shell of the container.
# hadolint ignore=SC2016
RUN printf '%s\n' '#!/bin/sh' \
      '# Copy the compiled code to a folder that numba can write to, then execute the command.' \
      'set -e' \
      '[ -e "$NUMBA_CACHE_DIR" ] || cp -r /opt/mlho/numba-cache "$NUMBA_CACHE_DIR"' \
      'exec "$@"' > /opt/mlho/bin/with-compiled-code \
    && chmod 755 /opt/mlho/bin/with-compiled-code

# ---------------------------------------------------------------- images

FROM ${BASE} AS bare
# Remove the tools that install packages. The user has a name, because Celery treats a user without a name as root.
RUN echo 'mlho:x:65532:' >> /etc/group \
    && echo 'mlho:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3.13/site-packages/pip* /usr/local/lib/python3.13/ensurepip \
      /usr/lib/python3/dist-packages/pip* /usr/lib/python3.13/ensurepip /usr/share/python-wheels \
    && mkdir -p /var/cache/mlho \
    && chown 65532:65532 /var/cache/mlho
COPY --from=builder /usr/bin/tini /usr/bin/tini
ENV PATH=/opt/mlho/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="mlho-batch" \
      org.opencontainers.image.description="Batch training and scoring on electronic health records" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

FROM bare AS scheduler
# Each run has its own threads. With one malloc arena per thread, memory freed by ended runs would not be returned.
ENV MALLOC_ARENA_MAX=2
COPY --from=scheduler-packages /opt/mlho /opt/mlho
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/mlho/bin/python", "-m", "scheduler"]

FROM bare AS worker
ENV NUMBA_CPU_NAME=generic NUMBA_CACHE_DIR=/tmp/numba-cache
COPY --from=worker-packages /opt/mlho /opt/mlho
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/mlho/bin/with-compiled-code", "/opt/mlho/bin/python", "-m", "worker"]
