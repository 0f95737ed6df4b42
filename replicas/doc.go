// Package replicas lets several processes share the streams of one installation:
// they join a Kafka consumer group on the position topic, and the group's
// coordinator says which process has which partition, and with it the streams
// that belong there. Nothing distributed is made here.
//
// An assignment gives liveness only. Safety is the fence of the transactional id:
// a process that has lost a partition and does not know it yet cannot commit.
//
// Imports: kgo, kadm. Only cmd imports it.
package replicas
