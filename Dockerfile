# The Python and the Debian release that the checks run on; a rebuild takes their security fixes.
ARG PYTHON_TAG=3.11-slim-bookworm

FROM python:${PYTHON_TAG} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv --copies /opt/callisto
# The pinned packages come first, in a layer of their own that a change of the source does not touch. All of them are
# wheels: the slim image has no compiler.
COPY requirements.lock requirements-build.lock ./
RUN /opt/callisto/bin/pip install --no-deps --require-hashes --only-binary :all: -r requirements.lock \
    && /opt/callisto/bin/pip check
# The build tools stay behind in this stage.
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-deps --require-hashes --only-binary :all: -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY callisto_telnetd ./callisto_telnetd
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /src/dist . \
    && /opt/callisto/bin/pip install --no-deps --no-index /src/dist/*.whl

FROM python:${PYTHON_TAG}
# Ports 23 and 80 without root: the environment's own copies of the interpreter (venv --copies) carry the capability, and no other
# program of the image does: the web server, a child, is the same interpreter, and what an owner adds gains nothing. Under no-new-privileges a file's capability does not count; Docker lets any user have any
# port there (net.ipv4.ip_unprivileged_port_start=0 in a container's own network). With `--cap-drop ALL`, add
# `--cap-add NET_BIND_SERVICE`: the kernel starts no program whose capability it may not give.
COPY --from=build /opt/callisto /opt/callisto
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libcap2-bin \
    && for python in /opt/callisto/bin/python*; do setcap cap_net_bind_service=+ep "$python"; done \
    && apt-get purge --yes --auto-remove libcap2-bin \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10023 callisto \
    && useradd --uid 10023 --gid callisto --no-create-home --home-dir /var/lib/callisto \
        --shell /usr/sbin/nologin callisto \
    && install --directory --owner callisto --group callisto --mode 0750 /var/lib/callisto
ENV PATH=/opt/callisto/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CALLISTO_DATA=/var/lib/callisto \
    CALLISTO_SERVICES__WEB_SERVER__HOST=0.0.0.0
USER 10023:10023
WORKDIR /var/lib/callisto
VOLUME /var/lib/callisto
EXPOSE 23 80
# Asks the running server through its local socket, whatever ports and addresses the owner has chosen. It says nothing of
# the web server: that one may rest, while a repair runs, without the container being ill.
HEALTHCHECK --interval=30s --timeout=10s --start-period=15s --retries=3 \
    CMD ["callisto-telnetd", "trace", "status", "--data", "/var/lib/callisto"]
ENTRYPOINT ["callisto-telnetd"]
CMD ["serve", "--host", "0.0.0.0", "--port", "23", "--data", "/var/lib/callisto"]
