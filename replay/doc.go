// Package replay makes events once more, outside of the live streams, with the ids,
// keys, headers and bytes that the live streams give them: of a span of the oplog
// (Oplog).
//
// Imports: mapper, lookup, publisher, resumetoken, watcher, daemon, mongo. Only cmd
// imports it.
package replay
