// Package daemon runs streams: a stream's loop from change to committed event,
// its recovery, and the order of shutdown.
//
// Every doubt after an error (stream died, commit outcome unknown, fenced) is
// answered in one way: close, acquire the stream again, read the stored
// position, reopen. Recovery is the same as a restart.
package daemon
