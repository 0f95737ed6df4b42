// Package mapper turns one committed change of the FHIR server's MongoDB into
// the Kafka events that the server's consumers know.
//
// It is pure: the same change and the same facts give the same bytes on every
// path (live, restart, replay, repair). It reads raw BSON, keeps nothing of a
// change after Map returns and never looks at a clock.
//
// It knows neither where changes come from (watcher) nor where events go (publisher);
// daemon and replay put the three together.
package mapper
