// Package lookup finds the facts that an event needs and that are not in the
// change: the request id of a version (RequestIDs), the persons behind a patient
// token (Persons), and whether a request has been seen already (Seen).
//
// Facts are fetched for a whole batch, by indexes that the FHIR server itself
// makes. A missing fact is left out, never guessed, and counted. A fact may come later
// than its change; Patience is how long it may take. A live stream looks again and lets
// other changes go ahead meanwhile (Look); others wait (Find). Waiting never changes which
// events are sent or their ids.
//
// Errors of MongoDB are returned, not turned into missing facts: the caller tries
// again. They carry the server's error code, never its message, because messages
// quote the query.
//
// It knows neither where changes come from (watcher) nor what facts are used for (mapper);
// daemon puts them together.
package lookup
