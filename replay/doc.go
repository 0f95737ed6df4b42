// Package replay makes events once more, outside of the live streams: of a span of the
// oplog (Oplog), and of what MongoDB's collections hold, for everything that the oplog
// does not tell, or not any more: the repair of a stream whose history is lost, and the
// backfill of a topic (Scanner).
//
// A Scanner reads a collection in _id order and hands its documents over as the
// changes that wrote them, so that the mapper gives them the ids, keys, headers and
// bytes that the live path gives. What a collection cannot tell (versions that were
// overwritten without history, deletes) no scan finds.
//
// Imports: mapper, lookup, publisher, resumetoken, watcher, daemon, mongo. Only cmd
// imports it.
package replay
