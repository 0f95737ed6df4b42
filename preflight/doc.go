// Package preflight finds out, before the daemon starts, what would fail later:
// rights, features of the servers, topics and their settings, clocks, and whether
// the newest documents become events. It changes nothing: to Kafka it writes only one
// record of the position topic, in a transaction that it aborts.
//
// Every check returns findings and no error; a failing check does not keep the others
// from running. No finding has contents of documents; a Sample has, for operators who ask
// for it.
package preflight
