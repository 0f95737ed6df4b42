package watcher_test

import (
	"errors"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/services"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// TestHistoryLost writes until a small oplog has lost a position.
func TestHistoryLost(t *testing.T) {
	if testing.Short() {
		t.Skip("writes until the oplog is full")
	}
	// The oplog is cut behind a checkpoint only: one a second, not one a minute.
	d := connect(t, services.MongoDBForTest(t, services.MongoDBOptions{OplogMB: 4, Args: []string{"--syncdelay", "1"}}).URI)
	c := d.database(t, "fhir").Collection("Consent_4_0_0")
	w := d.watcher(t, allOf(c.Database(), c.Name()))
	from := begin(t, w)
	insert(t, c, numbered(0, 1)...)
	at := timeOf(read(t, w, from, 1)[0])
	if window, err := w.Window(t.Context()); err != nil || !window.Whole {
		t.Errorf("window %+v, %v; the oplog has lost nothing yet", window, err)
	}
	big := bson.D{{Key: "x", Value: strings.Repeat("x", 1<<20)}}
	eventually(t, func() error {
		insert(t, c, big, big, big, big)
		oldest, err := w.Oldest(t.Context())
		if err == nil && !oldest.After(at) {
			err = errors.New("the oplog still holds the position")
		}
		return err
	})
	if window, err := w.Window(t.Context()); err != nil || window.Whole || !window.Oldest.After(at) {
		t.Errorf("window %+v, %v; the oplog has lost the change of %v", window, err, at)
	}
	for name, from := range map[string]watcher.From{"token": from, "time": {ClusterTime: at}} {
		if stopped := fatal(t, w, from); stopped.Class != watcher.HistoryLost {
			t.Errorf("%s: class %d, %v", name, stopped.Class, stopped)
		}
	}
}
