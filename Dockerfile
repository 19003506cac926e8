# syntax=docker/dockerfile:1
# The image of duckfeeder; see docs/deployment.md.

# The same Debian in both stages: the binary must not need a newer C library than the image has.
FROM rust:1.95-slim-bookworm AS builder
# aws-lc-sys and zstd-sys compile C and C++.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake g++ make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Dates the files of the release; give the time of the commit.
ARG SOURCE_DATE_EPOCH=0
# As for every release: stripped, tried out in an empty environment, with its bill of materials and licences.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" cargo xtask dist --out /dist \
    && mv /dist/duckfeeder-*/ /release \
    && mkdir /home-of-lakes

# The C library, certificates, and nothing else: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="duckfeeder" \
      org.opencontainers.image.description="Streams every change of a Postgres database into a DuckLake" \
      org.opencontainers.image.source="https://github.com/duckfeeder/duckfeeder" \
      org.opencontainers.image.documentation="https://github.com/duckfeeder/duckfeeder/blob/main/docs/deployment.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=builder /release/duckfeeder /usr/local/bin/duckfeeder
COPY --from=builder /release/LICENSE /release/THIRD_PARTY.txt /release/duckfeeder.cdx.json /usr/share/doc/duckfeeder/
# A volume that is mounted here begins with this owner.
COPY --from=builder --chown=65532:65532 /home-of-lakes /var/lib/duckfeeder

# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
WORKDIR /var/lib/duckfeeder
# What the health check asks. Set it to 0.0.0.0:9187 where others shall ask as well.
ENV DUCKFEEDER_SERVER__LISTEN=127.0.0.1:9187
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/duckfeeder", "health"]
ENTRYPOINT ["/usr/local/bin/duckfeeder"]
CMD ["run"]
