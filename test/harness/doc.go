// Package harness lets tests run the daemon as its users do: the built binary,
// configured by its environment, beside a real MongoDB and a real Kafka, judged
// by what a consumer reads from the topics.
//
// A Site names the databases and topics of one installation, Start runs the
// daemon, a Reader consumes what it wrote, and ChangeID, ExportID and
// AccessedEverythingID say which event ids to expect. The last are written from
// the documented formula, not with the daemon's code, so that a test that
// compares the two proves something.
package harness
