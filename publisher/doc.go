// Package publisher puts events and the position after them into Kafka.
//
// Transactional (delivery: exactly_once) makes one Kafka transaction of both, so
// a read_committed consumer sees every event once whatever dies when. Idempotent
// (delivery: at_least_once) waits for the brokers' acknowledgements and then
// saves the position. Stdout prints events as JSON lines for trying out.
//
// All three work in the same way: Acquire, then Commit batch after batch, then
// Close. All are fail-stop: after the first error nothing more is accepted, and
// the caller goes on by acquiring the stream anew from the position that Acquire
// returns. None is for more than one goroutine.
//
// CheckTopics looks at the topics before any of that, and ClientOptions turns a
// Connection into the Kafka client's options.
//
// It does not know where events come from.
package publisher
