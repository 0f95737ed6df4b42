package instance

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/publisher"
)

const (
	// newestRecords is how many dead letters and audit records are shown at most.
	newestRecords = 50
	// topicsFor is how long what was read of the topics is shown before they are read again: a
	// page asks every 10 s.
	topicsFor = 30 * time.Second
)

// details are the JSON of /details: names, times, counts and settings, no contents of documents
// and no secrets. Lists begin with the newest.
type details struct {
	Time time.Time `json:"time"`
	// IDs says that documents are named by their ids. Else they have marks, by which this
	// process tells one from another.
	IDs bool `json:"ids"`
	// Events are the last that this process committed.
	Events []daemon.Carried `json:"events"`
	// Unread is why records of the topics may be missing here.
	Unread string `json:"unread,omitempty"`
	installation.Newest
	Configuration []config.KeyOrigin `json:"configuration"`
}

// detailer makes what the status port shows to those who have the token.
type detailer struct {
	cfg   *config.Config
	shown *processState
	// key makes the marks of documents; nobody else can make one of an id.
	key []byte

	mu     sync.Mutex // held while the topics are read: by one request at a time
	read   time.Time
	newest installation.Newest
	err    error
}

func newDetailer(cfg *config.Config, shown *processState) *detailer {
	d := &detailer{cfg: cfg, shown: shown, key: make([]byte, sha256.Size)}
	_, _ = rand.Read(d.key) // It never fails.
	return d
}

// show makes the details. With ids, documents are named by their ids.
func (d *detailer) show(ctx context.Context, ids bool) *details {
	newest, err := d.topics(ctx)
	out := &details{Time: time.Now().UTC(), IDs: ids, Events: []daemon.Carried{}, Newest: newest, Configuration: d.cfg.Origins()}
	if err != nil {
		out.Unread = err.Error()
	}
	for _, s := range d.shown.all() {
		if stream, ok := s.(*daemon.Stream); ok {
			out.Events = append(out.Events, stream.Newest()...)
		}
	}
	slices.SortStableFunc(out.Events, func(a, b daemon.Carried) int { return b.Committed.Compare(a.Committed) })
	// What was read is shown again to others, who may want ids.
	out.Letters, out.Audit = append([]installation.Letter{}, newest.Letters...), append([]publisher.AuditRecord{}, newest.Audit...)
	if !ids {
		d.hideIDs(out)
	}
	for i := range out.Audit {
		const most = 400 // A record may name thousands of events.
		if text := out.Audit[i].DetailText(); len(text) > most {
			out.Audit[i].Details = map[string]any{"cut": strings.ToValidUTF8(text[:most], "") + "…"}
		}
	}
	return out
}

// topics are the newest records of the topics.
func (d *detailer) topics(ctx context.Context) (installation.Newest, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.read) > topicsFor {
		// What is read is for the next requests too, also if this one's client hangs up.
		d.newest, d.err = d.shown.newest(context.WithoutCancel(ctx), newestRecords)
		d.read = time.Now()
	}
	return d.newest, d.err
}

// hideIDs puts marks in the place of documents' ids, and leaves out what names documents
// otherwise.
func (d *detailer) hideIDs(out *details) {
	for i := range out.Events {
		e := &out.Events[i]
		e.Document, e.ID = d.mark(e.Namespace+"/"+e.Document), ""
	}
	for i := range out.Letters {
		l := &out.Letters[i]
		l.Key, l.DocumentKey, l.ResumeToken = l.Namespace+"/"+d.mark(l.Key), nil, nil
	}
	for i := range out.Audit {
		left, _ := withoutIDs("", out.Audit[i].Details)
		out.Audit[i].Details, _ = left.(map[string]any)
	}
}

// mark is the mark of a document's name: the same for the same document as long as the process
// lives.
func (d *detailer) mark(name string) string {
	mark := hmac.New(sha256.New, d.key)
	mark.Write([]byte(name))
	const enough = 6
	return "#" + hex.EncodeToString(mark.Sum(nil)[:enough])
}

// harmless are the members of audit records whose texts name no document. Any other text may: a
// resume token has the document's _id in it.
func harmless(member string) bool {
	switch member {
	case "state", "since", "from", "until", "to", "time", "changed", "topicPrefix", "position", "takenFrom", "stream",
		"kinds", "resources", "letters", "control", "client", "level", "operation", "database", "collection", "fingerprint":
		return true
	}
	return false
}

// withoutIDs is a member of an audit record's details without what may name documents; false if
// nothing is left.
func withoutIDs(name string, value any) (any, bool) {
	switch v := value.(type) {
	case map[string]any:
		kept := map[string]any{}
		for name, member := range v {
			if left, some := withoutIDs(name, member); some {
				kept[name] = left
			}
		}
		return kept, true
	case []any:
		var kept []any
		for _, member := range v {
			if left, some := withoutIDs(name, member); some {
				kept = append(kept, left)
			}
		}
		return kept, len(kept) > 0
	case string:
		return v, harmless(name)
	}
	return value, true
}
