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
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/status"
)

const (
	// newestRecords is how many dead letters and audit records are shown at most.
	newestRecords = 50
	// topicsFor is how long what was read of the topics is shown before they are read again,
	// topicsTimeout bounds the reading: what needs no Kafka is shown all the same.
	topicsFor     = 10 * time.Second
	topicsTimeout = 5 * time.Second
)

// details makes what the status port shows to those who have the token.
type details struct {
	cfg   *config.Config
	shown *processState
	// key makes the marks of documents; nobody else can make one of an id.
	key []byte

	mu     sync.Mutex // held while the topics are read: by one request at a time
	read   time.Time
	newest installation.Newest
	err    error
}

func newDetails(cfg *config.Config, shown *processState) *details {
	d := &details{cfg: cfg, shown: shown, key: make([]byte, sha256.Size)}
	_, _ = rand.Read(d.key) // It never fails.
	return d
}

// show makes the details. With ids, documents are named by their ids.
func (d *details) show(ctx context.Context, ids bool) *status.Details {
	newest, err := d.topics(ctx)
	// Lists that are empty, not nil: as JSON they are lists.
	out := &status.Details{
		Time: time.Now().UTC(), IDs: ids, Events: d.events(ids), DeadLetters: d.letters(newest.Letters, ids),
		Audit: []status.DetailedAct{}, Backfills: []status.DetailedBackfill{},
	}
	if err != nil {
		out.Unread = err.Error()
	}
	for _, r := range newest.Audit {
		if !ids {
			r.Details, _ = withoutIDs(r.Details).(map[string]any)
		}
		out.Audit = append(out.Audit, status.DetailedAct{Time: r.Time, Action: string(r.Action), Stream: r.Stream, Actor: r.Actor, Details: cut(r.DetailText())})
	}
	for _, b := range newest.Backfills {
		shown := status.DetailedBackfill{Name: b.Name, State: b.State, Since: b.Since, Actor: b.Actor}
		if p := b.Progress; p != nil {
			shown.Known, shown.Collection, shown.Documents, shown.Events, shown.DeadLetters = true, p.Collection, p.Documents, p.Events, p.DeadLetters
		}
		out.Backfills = append(out.Backfills, shown)
	}
	for _, o := range d.cfg.Origins() {
		out.Configuration = append(out.Configuration, status.Setting(o))
	}
	return out
}

// topics are the newest records of the topics.
func (d *details) topics(ctx context.Context) (installation.Newest, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.read) > topicsFor {
		// What is read is for the next requests too, also if this one's client hangs up.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), topicsTimeout)
		defer cancel()
		d.newest, d.err = d.shown.newest(ctx, newestRecords)
		d.read = time.Now()
	}
	return d.newest, d.err
}

// events are the last that the streams of this process committed.
func (d *details) events(ids bool) []status.DetailedEvent {
	all := []status.DetailedEvent{}
	for _, s := range d.shown.all() {
		stream, ok := s.(*daemon.Stream)
		if !ok {
			continue
		}
		for _, e := range stream.Newest() {
			shown := status.DetailedEvent{
				Stream: stream.Name(), Kind: string(e.Kind), ResourceType: mapper.ResourceOf(e.Collection), Action: string(e.Action),
				Document: d.name(e.Database+"."+e.Collection, e.Document, ids), Changed: e.Changed, Committed: e.Committed.UTC(),
			}
			if ids {
				shown.ID = e.ID
			}
			all = append(all, shown)
		}
	}
	slices.SortStableFunc(all, func(a, b status.DetailedEvent) int { return b.Committed.Compare(a.Committed) })
	return all
}

func (d *details) letters(newest []installation.Letter, ids bool) []status.DetailedLetter {
	all := []status.DetailedLetter{}
	for i := range newest {
		l := &newest[i]
		_, collection, _ := strings.Cut(l.Namespace, ".")
		all = append(all, status.DetailedLetter{
			Place: strings.Join(l.Places(), ", "), Stored: l.Stored, Stream: l.Stream, Kind: string(l.Kind), ResourceType: mapper.ResourceOf(collection),
			Document: d.name(l.Namespace, strings.TrimPrefix(l.Key, l.Namespace+"/"), ids), Reason: l.Reason, Retried: l.Retried,
		})
	}
	return all
}

// name is a document's id, or the mark in its place: the same for the same document as long as
// the process lives.
func (d *details) name(namespace, id string, ids bool) string {
	if ids || id == "" {
		return id
	}
	mark := hmac.New(sha256.New, d.key)
	mark.Write([]byte(namespace + "/" + id))
	const enough = 6
	return "#" + hex.EncodeToString(mark.Sum(nil)[:enough])
}

// cut bounds a text: a record may name thousands of events.
func cut(text string) string {
	const most = 400
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// withoutIDs is a value of an audit record's details without the members that name documents,
// as a resume token does too.
func withoutIDs(value any) any {
	switch v := value.(type) {
	case map[string]any:
		kept := map[string]any{}
		for name, member := range v {
			if name != "ids" && !strings.Contains(strings.ToLower(name), "token") {
				kept[name] = withoutIDs(member)
			}
		}
		return kept
	case []any:
		kept := make([]any, len(v))
		for i := range v {
			kept[i] = withoutIDs(v[i])
		}
		return kept
	}
	return value
}
