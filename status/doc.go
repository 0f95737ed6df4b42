// Package status is the daemon's HTTP port: probes, metrics and a summary for
// people and machines. It shows positions, times and counts, no contents.
// With a token it takes a few controls, each of them on record.
package status
