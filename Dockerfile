FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=container
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /fhir-cdc ./cmd/fhir-cdc

FROM scratch
LABEL org.opencontainers.image.title="fhir-cdc" \
      org.opencontainers.image.description="Publishes a FHIR server's Kafka events from its MongoDB change streams" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /fhir-cdc /fhir-cdc
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/fhir-cdc"]
CMD ["run"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/fhir-cdc", "healthcheck"]
