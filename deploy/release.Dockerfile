# The image of a release, around the binary that the release has built: as Dockerfile in
# all but where its parts come from, which a test holds. `make release-images` lays them out.
FROM scratch
ARG TARGETPLATFORM
ARG VERSION=local
ARG REVISION=unknown
LABEL org.opencontainers.image.title="fhir-cdc" \
      org.opencontainers.image.description="Publishes a FHIR server's Kafka events from its MongoDB change streams" \
      org.opencontainers.image.source="https://github.com/fhir-cdc/fhir-cdc" \
      org.opencontainers.image.documentation="https://github.com/fhir-cdc/fhir-cdc#readme" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY $TARGETPLATFORM/fhir-cdc /fhir-cdc
COPY --chown=65532:65532 data /var/lib/fhir-cdc
# /tmp, for the intermediate results of verify; with --read-only give it a tmpfs.
COPY scratch /
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
