// Package preflight finds out, before the daemon starts, what would fail later:
// rights, features of the servers, topics and their settings, clocks, and whether
// the newest documents become events. It changes nothing: what it writes to Kafka is
// one record of the position topic in a transaction that it aborts.
//
// Every check returns findings and no error; one that fails does not keep the others
// from running. Contents of documents are in no finding, but in a Sample for those who
// ask for it.
//
// Imports: mongo, kgo, terminal for the form of numbers, resourcetype, and watcher, mapper and daemon
// for what the daemon itself would do. Only cmd imports it.
package preflight
