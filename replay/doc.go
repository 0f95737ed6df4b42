// Package replay makes events once more, outside of the live streams: from a span of the
// oplog (Reader), and from MongoDB's collections (Scanner), for changes that the oplog does
// not have, or no longer has. The commands replay and backfill are here; verify and repair
// build on it.
//
// A Scanner reads a collection in _id order and hands its documents over as the
// changes that wrote them, so that the mapper gives them the ids, keys, headers and
// bytes that the live path gives. No scan finds changes that left nothing in a collection:
// deletes, and versions that were overwritten without history.
package replay
