package daemon

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// Published tells whether another stream had published a change before it handed the
// change's collection over to this one.
func Published(before []resumetoken.Published, raw bson.Raw) bool {
	if len(before) == 0 {
		return false
	}
	token, ok := raw.Lookup("_id").DocumentOK()
	if !ok {
		return false
	}
	database, _ := raw.Lookup("ns", "db").StringValueOK()
	collection, _ := raw.Lookup("ns", "coll").StringValueOK()
	for _, p := range before {
		if !p.Has(database+"."+collection) || watcher.After(token, p.Token) {
			continue
		}
		// A key whose hash is not known counts as not published: an event twice, with
		// one id, is better than none.
		if holds, known := (watcher.Slice{Index: p.Slice, Of: p.Of}).Holds(raw); holds && known {
			return true
		}
	}
	return false
}
