// Package cloudevents holds events against CloudEvents, by the Go SDK's binding to Kafka. It is
// a module of its own, because the SDK brings a Kafka client that fhir-cdc does not have.
package cloudevents
