// Package consumers tests the examples of docs/consumers as their readers would try them: by
// the commands of their pages, against a real Kafka whose topics hold aborted transactions
// and repeated events.
package consumers
