package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// positionView is what is shown of a stream.
type positionView struct {
	Stream string `json:"stream"`
	Store  string `json:"store"`
	// Position is nil for a stream that has never had one.
	Position *spot `json:"position"`
	// Saved is when it was stored, by the store's clock.
	Saved string `json:"saved,omitempty"`
	// PipelineChanged says that the configuration has another pipeline than the
	// position: the stream will go on from the position's cluster time.
	PipelineChanged bool `json:"pipelineChanged"`
	// The times in seconds are nil where they cannot be known.
	AgeSeconds       *float64 `json:"ageSeconds"`
	LagSeconds       *float64 `json:"lagSeconds"`
	OplogLeftSeconds *float64 `json:"oplogLeftSeconds"`

	// Paused says that an operator holds the stream at its position.
	Paused bool `json:"paused"`
	// AheadSeconds is how far a position lies ahead of the cluster, where it is so far
	// that no clock or delay explains it: until the cluster comes there, no change is
	// published.
	AheadSeconds *float64 `json:"aheadSeconds,omitempty"`

	// Running is nil where it cannot be known, because replicas come or go.
	Running *bool `json:"running"`
	// Carrier is the process that carries the stream now, Owner the one that acquired
	// it last.
	Carrier string     `json:"carrier,omitempty"`
	Owner   *ownerView `json:"owner"`
}

type ownerView struct {
	Instance string `json:"instance"`
	Since    string `json:"since,omitempty"`
	Seen     string `json:"seen,omitempty"`
	Stopped  string `json:"stopped,omitempty"`
}

// keeper is where a stream's position is kept, once it is known to be in reach: to be
// looked at, or also to be changed, which goes on record.
func (o *operation) keeper(ctx context.Context, p plannedStream, toChange bool) (resumetoken.Keeper, error) {
	changed := ""
	if toChange {
		changed = p.name
	}
	if err := o.reachStore(ctx, changed); err != nil {
		return nil, err
	}
	return o.sink.store(p.name)
}

// reachStore makes sure that the home of positions can be read, and the position of a
// stream changed; "" for none.
func (o *operation) reachStore(ctx context.Context, changed string) error {
	needed := publisher.Requirements{}
	switch o.cfg.Checkpoint.Store {
	case config.StoreKafka:
		if o.cfg.Sink == config.SinkStdout {
			return &usageError{"sink: stdout keeps no positions, unless checkpoint.store is mongodb or file"}
		}
		needed.Positions = o.cfg.Topics.Positions
	case config.StoreMongoDB:
		if err := o.clients.reach(ctx, o.cfg.CheckpointCluster()); err != nil {
			return fmt.Errorf("positions: %w", err)
		}
	case config.StoreFile:
	}
	if o.cfg.Sink == config.SinkStdout {
		return nil
	}
	if changed == "" {
		requiring(&needed, toRead(), needed.Positions)
	} else {
		needed.Audit = o.cfg.Topics.Audit
		if needed.Positions != "" {
			needed.TransactionalIDs = []string{o.cfg.Name + "/" + changed}
		}
	}
	if needed.Positions == "" && needed.Audit == "" {
		return nil
	}
	_, err := o.haveTopics(ctx, needed)
	return err
}

// positionLook looks at streams without touching them.
type positionLook struct {
	o       *operation
	running *liveness
	// windows are the oplogs of the clusters, nil for one that does not answer.
	windows  map[config.Secret]*watcher.Window
	troubles []string
}

func newPositionLook(ctx context.Context, o *operation) (*positionLook, error) {
	if err := o.reachStore(ctx, ""); err != nil {
		return nil, err
	}
	running, err := newLiveness(ctx, o)
	if err != nil {
		return nil, err
	}
	look := &positionLook{o: o, running: running, windows: map[config.Secret]*watcher.Window{}}
	if running.unsettled != "" {
		look.troubles = append(look.troubles, fmt.Sprintf("who carries the streams is not known: replicas of group %s come or go (%s)", o.cfg.Name, running.unsettled))
	}
	others, err := o.sink.otherStreams(ctx)
	if err != nil {
		return nil, err
	}
	if others != "" {
		look.troubles = append(look.troubles, others)
	}
	return look, nil
}

// tellTroubles says what could not be found out; what could is worth showing.
func (l *positionLook) tellTroubles(s *terminal.Screen) {
	for _, text := range l.troubles {
		_ = s.Print(s.Paint(terminal.Yellow, "note: ") + text)
	}
}

func (l *positionLook) stream(ctx context.Context, p plannedStream) (positionView, error) {
	keeper, err := l.o.sink.store(p.name)
	if err != nil {
		return positionView{}, err
	}
	stored, err := keeper.Inspect(ctx)
	if err != nil {
		return positionView{}, err
	}
	v := positionView{Stream: p.name, Store: string(l.o.cfg.Checkpoint.Store)}
	if running, carrier := l.running.of(p.name, stored); l.running.unsettled == "" {
		v.Running, v.Carrier = &running, carrier
	}
	if o := stored.Owner; o.Instance != "" {
		v.Owner = &ownerView{Instance: o.Instance, Since: terminal.Time(o.Since), Seen: terminal.Time(o.Seen), Stopped: terminal.Time(o.Stopped)}
	}
	w, err := l.o.watcher(p)
	if err != nil {
		return positionView{}, err
	}
	window, err := l.window(ctx, p, w)
	if err != nil {
		return positionView{}, err
	}
	if stored.Position.IsZero() {
		return v, nil
	}
	shown := spotOf(stored.Position)
	v.Position, v.Saved = &shown, terminal.Time(stored.Saved)
	v.Paused = stored.Position.Paused
	v.PipelineChanged = w.Fingerprint() != stored.Position.Fingerprint
	v.AgeSeconds = inSeconds(time.Since(timeOf(stored.Position.ClusterTime)))
	if window != nil && !window.Newest.IsZero() {
		if ahead := timeOf(stored.Position.ClusterTime).Sub(timeOf(window.Newest)); ahead > daemon.AheadWorth {
			v.AheadSeconds = inSeconds(ahead)
			l.troubles = append(l.troubles, fmt.Sprintf("stream %s: its position lies ahead of the cluster by %s: nothing is published until the cluster comes there; set it with fhir-cdc position set", p.name, terminal.Duration(ahead)))
		}
		v.LagSeconds = inSeconds(behind(stored.Position.ClusterTime, window.Newest))
	}
	if window != nil && !window.Oldest.IsZero() {
		v.OplogLeftSeconds = inSeconds(timeOf(stored.Position.ClusterTime).Sub(timeOf(window.Oldest)))
	}
	return v, nil
}

// window asks a cluster once. A cluster that is away is a trouble, one that refuses
// the login an error.
func (l *positionLook) window(ctx context.Context, p plannedStream, w *watcher.Watcher) (*watcher.Window, error) {
	if known, ok := l.windows[p.place.URI]; ok {
		return known, nil
	}
	err := l.o.clients.reach(ctx, p.place)
	var window watcher.Window
	if err == nil {
		window, err = w.Window(ctx)
	}
	switch {
	case err == nil:
		l.windows[p.place.URI] = &window
	case ctx.Err() != nil || errors.As(err, new(*watcher.Error)):
		return nil, err
	default:
		l.windows[p.place.URI] = nil
		l.troubles = append(l.troubles, fmt.Sprintf("lag and oplog are not known: %v", err))
	}
	return l.windows[p.place.URI], nil
}

// behind is the time from a position to the newest operation, never negative: the two
// are asked for one after the other.
func behind(from, to bson.Timestamp) time.Duration {
	return max(0, timeOf(to).Sub(timeOf(from)))
}

func timeOf(t bson.Timestamp) time.Time {
	if t.T == 0 {
		return time.Time{}
	}
	return time.Unix(int64(t.T), 0).UTC()
}

func inSeconds(d time.Duration) *float64 {
	s := d.Seconds()
	return &s
}

// tokenText is the part of a token that people copy: the server's own text.
func tokenText(token bson.Raw) string {
	if text, ok := token.Lookup("_data").StringValueOK(); ok {
		return text
	}
	text, err := bson.MarshalExtJSON(token, true, false)
	if err != nil {
		return ""
	}
	return string(text)
}
