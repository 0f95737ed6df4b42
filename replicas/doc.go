// Package replicas lets several processes share the streams of one installation:
// they join a Kafka consumer group on the position topic, and the group's
// coordinator says which process has which partition, and with it the partition's
// streams. The distributed part is Kafka's.
//
// An assignment gives liveness only. Safety is the fence of the transactional id:
// a process that has lost a partition and does not know it yet cannot commit.
package replicas
