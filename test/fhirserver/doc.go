// Package fhirserver writes to MongoDB what a FHIR server would for a request:
// the same collections and shapes, in the same order, with the history some time
// after the main document or never. It is what the daemon's tests, demo and
// measurements have instead of a server; the shapes are those of a recorded one
// (test/testdata/fhir-server).
//
// Contents are made up and the same in every run; ids and times are the caller's.
package fhirserver
