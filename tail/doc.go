// Package tail reads events back from Kafka, as a consumer that reads only what is
// committed, and shows them: for the operator's command and for the demo. What it shows
// are contents of events.
//
// Imports: kgo, kadm, terminal, mapper for the names of kinds. cmd and test/demo import
// it.
package tail
