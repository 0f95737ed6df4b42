// Package lookup finds the facts that an event needs and that are not in the
// change: the request id of a version (RequestIDs), the persons behind a patient
// token (Persons), and whether a request has been seen already (Seen).
//
// Facts are fetched for a whole batch, by indexes that the FHIR server itself
// makes. What is not there is left out, never guessed, and counted. A fact that
// comes later than its change is waited for once per batch and for a bounded
// time; waiting never changes which events are sent or their ids.
//
// Errors of MongoDB are returned, not turned into missing facts: the caller tries
// again. They carry the server's error code, never its message, because messages
// quote the query.
//
// Imports: mongo and servererror only. It knows neither where changes come from (watcher) nor
// what facts are used for (mapper); daemon puts them together.
package lookup
