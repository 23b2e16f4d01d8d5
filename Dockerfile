# Both stages stand on the same base: a virtual environment refers to the Python it was made with.
# Any base with python3 3.11 or later and its venv module will do.
ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
# The project and its runtime dependencies, nothing else: pip itself has no business in the image.
RUN python3 -m venv /opt/pgleash \
 && /opt/pgleash/bin/pip install --no-cache-dir --disable-pip-version-check . \
 && /opt/pgleash/bin/pip uninstall --yes setuptools pip
# Installed with its mode, because a checkout may have been made under a umask that shuts other users out.
COPY config/pgleash.yaml ./
RUN install -D --mode=0644 pgleash.yaml /etc/pgleash/pgleash.yaml

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="pgleash" \
      org.opencontainers.image.description="A transparent Postgres sidecar that names who leaks transactions" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/pgleash /opt/pgleash
COPY --from=build /etc/pgleash /etc/pgleash
# Bytecode was compiled by the build; the root file system may be read-only.
ENV PATH=/opt/pgleash/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
# A number, not a name: only then can Kubernetes check runAsNonRoot.
USER 65532:65532
# The shipped configuration listens on loopback, as a sidecar should. To reach the port from outside of the
# container's network, set PGLEASH_LISTEN=0.0.0.0:6432.
EXPOSE 6432
# The proxy drains its sessions on SIGTERM.
STOPSIGNAL SIGTERM
# No HEALTHCHECK: Kubernetes ignores it in favour of a pod's probes, and the answer to a mere connect would be
# worth less elsewhere than the container's exit status.
ENTRYPOINT ["pgleash"]
CMD ["serve", "--config", "/etc/pgleash/pgleash.yaml"]
