// Package status is the daemon's HTTP port: probes, metrics and a summary for
// people and machines. It shows positions, times and counts, no contents, and
// changes nothing.
//
// Imports: daemon (for Progress), watcher (for Window), prometheus. Only cmd imports it.
package status
