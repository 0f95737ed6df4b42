// Package tail reads events back from Kafka, as a consumer of committed records, and shows
// them: for the operator's command and for the demo. Its output has the contents of events.
package tail
