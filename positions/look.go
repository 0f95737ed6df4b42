// Package positions judges the stored positions of an installation's streams: how far a stream
// is, whether a process carries it, and whether it can go on at another position.
package positions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// View is what is shown of a stream.
type View struct {
	Stream string `json:"stream"`
	Store  string `json:"store"`
	// Position is nil for a stream that has never had one.
	Position *Shown `json:"position"`
	// Saved is when it was stored, by the store's clock.
	Saved string `json:"saved,omitempty"`
	// PipelineChanged says that the configuration has another pipeline than the
	// position: the stream will go on from the position's cluster time.
	PipelineChanged bool `json:"pipelineChanged"`
	// The times in seconds are nil where they cannot be known.
	AgeSeconds       *float64 `json:"ageSeconds"`
	LagSeconds       *float64 `json:"lagSeconds"`
	OplogLeftSeconds *float64 `json:"oplogLeftSeconds"`
	// OplogWhole says that the oplog has forgotten nothing yet, whatever is left of it.
	OplogWhole bool `json:"oplogWhole,omitempty"`
	// LagAtMost says that the stream may be less behind, up to not at all: where it has nothing
	// to publish, it stores its position now and then only.
	LagAtMost bool `json:"lagAtMost,omitempty"`

	// Paused says that an operator holds the stream at its position.
	Paused bool `json:"paused"`
	// AheadSeconds is how far a position lies ahead of the cluster, if no clock or delay
	// explains it: until the cluster reaches the position, no change is published.
	AheadSeconds *float64 `json:"aheadSeconds,omitempty"`

	// Running is nil where it cannot be known, because replicas come or go.
	Running *bool `json:"running"`
	// Carrier is the process that carries the stream now, Owner the one that acquired
	// it last.
	Carrier string `json:"carrier,omitempty"`
	Owner   *Owner `json:"owner"`
}

// Owner is the process that acquired a stream last.
type Owner struct {
	Instance string `json:"instance"`
	Since    string `json:"since,omitempty"`
	Seen     string `json:"seen,omitempty"`
	Stopped  string `json:"stopped,omitempty"`
}

// Look looks at streams without touching them.
type Look struct {
	o       *installation.Installation
	running *liveness
	// windows are the oplogs of the clusters, nil for one that does not answer.
	windows  map[config.Secret]*watcher.Window
	troubles []string
}

// NewLook makes sure that the positions are in reach.
func NewLook(ctx context.Context, o *installation.Installation) (*Look, error) {
	if err := o.ReachStore(ctx, ""); err != nil {
		return nil, err
	}
	running, err := newLiveness(ctx, o)
	if err != nil {
		return nil, err
	}
	look := &Look{o: o, running: running, windows: map[config.Secret]*watcher.Window{}}
	if running.unsettled != "" {
		look.troubles = append(look.troubles, fmt.Sprintf("who carries the streams is not known: replicas of group %s come or go (%s)", o.Config.Name, running.unsettled))
	}
	others, err := o.Sink.OtherStreams(ctx)
	if err != nil {
		return nil, err
	}
	if others != "" {
		look.troubles = append(look.troubles, others)
	}
	return look, nil
}

// TellTroubles says what could not be found out; what could is worth showing.
func (l *Look) TellTroubles(s *terminal.Screen) {
	for _, text := range l.troubles {
		_ = s.Flow("  ", s.Paint(terminal.Yellow, "note: ")+text)
	}
}

// Stream looks at the position of one stream.
func (l *Look) Stream(ctx context.Context, p installation.PlannedStream) (View, error) {
	keeper, err := l.o.Sink.Store(p.Name)
	if err != nil {
		return View{}, err
	}
	stored, err := keeper.Inspect(ctx)
	if err != nil {
		return View{}, err
	}
	v := View{Stream: p.Name, Store: string(l.o.Config.Checkpoint.Store)}
	if running, carrier := l.running.carrier(p.Name, stored); l.running.unsettled == "" {
		v.Running, v.Carrier = &running, carrier
	}
	if o := stored.Owner; o.Instance != "" {
		v.Owner = &Owner{Instance: o.Instance, Since: terminal.Time(o.Since), Seen: terminal.Time(o.Seen), Stopped: terminal.Time(o.Stopped)}
	}
	w, err := l.o.Watcher(p)
	if err != nil {
		return View{}, err
	}
	window, err := l.window(ctx, p, w)
	if err != nil {
		return View{}, err
	}
	if stored.Position.IsZero() {
		return v, nil
	}
	shown := Show(stored.Position)
	v.Position, v.Saved = &shown, terminal.Time(stored.Saved)
	v.Paused = stored.Position.Paused
	v.PipelineChanged = w.Fingerprint() != stored.Position.Fingerprint
	v.AgeSeconds = inSeconds(time.Since(timeOf(stored.Position.ClusterTime)))
	if window != nil && !window.Newest.IsZero() {
		if ahead := timeOf(stored.Position.ClusterTime).Sub(timeOf(window.Newest)); ahead > daemon.MaxAhead {
			v.AheadSeconds = inSeconds(ahead)
			l.troubles = append(l.troubles, fmt.Sprintf("stream %s: its position lies ahead of the cluster by %s: nothing is published until the cluster comes there; set it with fhir-cdc position set", p.Name, terminal.Duration(ahead)))
		}
		lag := behind(stored.Position.ClusterTime, window.Newest)
		v.LagSeconds = inSeconds(lag)
		v.LagAtMost = v.Running != nil && *v.Running && !v.Paused && lag > 0 && lag <= l.o.Config.Checkpoint.IdleInterval+idleLate
	}
	if window != nil && !window.Oldest.IsZero() {
		v.OplogLeftSeconds = inSeconds(timeOf(stored.Position.ClusterTime).Sub(timeOf(window.Oldest)))
		v.OplogWhole = window.Whole
	}
	return v, nil
}

// idleLate is how much older than checkpoint.idle_interval the position of an idle stream may
// be: MongoDB tells of new times every ten seconds.
const idleLate = 10 * time.Second

// window asks a cluster once. A cluster that does not answer is a trouble, a cluster that
// refuses the login an error.
func (l *Look) window(ctx context.Context, p installation.PlannedStream, w *watcher.Watcher) (*watcher.Window, error) {
	if known, ok := l.windows[p.Place.URI]; ok {
		return known, nil
	}
	err := l.o.Clients.Reach(ctx, p.Place)
	var window watcher.Window
	if err == nil {
		window, err = w.Window(ctx)
	}
	switch {
	case err == nil:
		l.windows[p.Place.URI] = &window
	case ctx.Err() != nil || errors.As(err, new(*watcher.Error)):
		return nil, err
	default:
		l.windows[p.Place.URI] = nil
		l.troubles = append(l.troubles, fmt.Sprintf("lag and oplog are not known: %v", err))
	}
	return l.windows[p.Place.URI], nil
}

// behind is the time from a position to the newest operation, never negative: the two
// are asked for one after the other.
func behind(from, to bson.Timestamp) time.Duration {
	return max(0, timeOf(to).Sub(timeOf(from)))
}

// timeOf is a cluster time by the clock, zero for none.
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
	if text, ok := tokens.Text(token); ok {
		return text
	}
	text, err := bson.MarshalExtJSON(token, true, false)
	if err != nil {
		return ""
	}
	return string(text)
}

// Shown is a position as it is shown.
type Shown struct {
	ClusterTime ClusterTime `json:"clusterTime"`
	// Changed is the wall clock of the last change, where it is known.
	Changed     string `json:"changed,omitempty"`
	Token       string `json:"token"`
	Fingerprint string `json:"fingerprint"`
}

// Show is a position as people and scripts get it.
func Show(p resumetoken.Position) Shown {
	return Shown{
		ClusterTime: ClusterTime{T: p.ClusterTime.T, I: p.ClusterTime.I, Time: terminal.Time(timeOf(p.ClusterTime))},
		Changed:     terminal.Time(p.WallTime),
		Token:       tokenText(p.Token),
		Fingerprint: p.Fingerprint,
	}
}

// ClusterTime is an oplog time in both of its forms.
type ClusterTime struct {
	T    uint32 `json:"t"`
	I    uint32 `json:"i"`
	Time string `json:"time"`
}
