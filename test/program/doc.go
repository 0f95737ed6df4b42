// Package program builds the daemon's binary and runs it as a child process, for
// the demo and the benchmark. Tests use package harness, which does the same with
// a test's life and failures.
package program
