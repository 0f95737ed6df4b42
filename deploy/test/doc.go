// Package deploytest tests what is in deploy/: the Helm chart with Helm's own packages,
// every object of it against the types of the Kubernetes API, and the manifest that is
// rendered from it.
//
// It is a module of its own, because these packages would bring several times the
// modules that fhir-cdc itself needs. Nothing imports it.
package deploytest
