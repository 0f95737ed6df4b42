// Package resumetoken holds a stream's position and the places where positions
// are kept: a compacted Kafka topic (the home that makes exactly-once possible),
// a MongoDB collection, or a file.
//
// Every store has an owner: Acquire makes this process the owner and only then
// returns the stored position, so that a predecessor that is still alive can no
// longer move it.
//
// The stores also keep States, which belong to no stream, such as the layout of the streams.
//
// publisher uses the Kafka store for its transactions; nothing here knows mapper, watcher or
// layout.
package resumetoken
