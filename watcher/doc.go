// Package watcher reads a change stream: it opens it at a position, hands over
// its changes a server batch at a time with the position after each batch, and
// opens it again, where it stopped, after everything but the errors that an
// operator must see.
//
// It does not know what changes mean (mapper) or where they go (publisher).
package watcher
