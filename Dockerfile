# The image of fhir-cdc: the program and the authorities that it trusts, nothing else.
#   docker build --build-arg VERSION=$(git describe --tags --always) -t fhir-cdc .
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=local
# /data becomes the folder for positions in a file (checkpoint.store: file), /scratch/tmp /tmp.
# grpcnotrace: what sends traces brings gRPC along, and that a page that nothing serves, whose
# templates would keep the linker from leaving 6 MB of unused code out.
# nethttpomithttp2: nothing here needs HTTP/2, and all who speak it speak HTTP/1.1 too; 0.5 MB and
# its kinds of flooding are left out.
RUN CGO_ENABLED=0 go build -trimpath -tags grpcnotrace,nethttpomithttp2 -ldflags "-s -w -X main.version=${VERSION}" -o /fhir-cdc ./cmd/fhir-cdc \
 && mkdir -p /data /scratch/tmp && chmod 1777 /scratch/tmp

FROM scratch
ARG VERSION=local
ARG REVISION=unknown
LABEL org.opencontainers.image.title="fhir-cdc" \
      org.opencontainers.image.description="Publishes a FHIR server's Kafka events from its MongoDB change streams" \
      org.opencontainers.image.source="https://github.com/fhir-cdc/fhir-cdc" \
      org.opencontainers.image.documentation="https://github.com/fhir-cdc/fhir-cdc#readme" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /fhir-cdc /fhir-cdc
COPY --from=build --chown=65532:65532 /data /var/lib/fhir-cdc
# /tmp, for the intermediate results of verify; with --read-only give it a tmpfs.
COPY --from=build /scratch /
# docker exec and kubectl exec find fhir-cdc without its path.
ENV PATH=/
USER 65532:65532
WORKDIR /var/lib/fhir-cdc
EXPOSE 8080
ENTRYPOINT ["/fhir-cdc"]
CMD ["run"]
# /readyz: a stand-by is well too. Without the port (FHIR_CDC_HTTP_ADDRESS=off) the check
# fails: switch it off as well (docker run --no-healthcheck).
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/fhir-cdc", "healthcheck"]
