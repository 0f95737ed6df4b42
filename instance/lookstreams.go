package instance

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

const (
	// questionTime bounds one question of a look. The driver gives a server up after
	// ServerSelection.
	questionTime = 2 * installation.ServerSelection
	// questions is how many collections are read at once.
	questions = 8
	// readPause is between two looks at all collections.
	readPause = 10 * time.Minute
)

// lookAt is a look at the needs of some streams, and its last result. The slices of a group
// share one look.
type lookAt struct {
	name    string
	streams []*daemon.Stream
	// probe opens the change stream. reads has a reading of each collection that look-ups,
	// repairs and positions need; read is when the last reading of all of them began.
	probe func(context.Context) error
	reads []func(context.Context) error
	read  time.Time
	// idle are the streams that this process did not carry at the last look. answered says that
	// their own cluster answered then, err is an error of that or another cluster, and away is
	// when a look began that got no answer.
	idle     []*daemon.Stream
	answered bool
	err      error
	away     time.Time
}

func newLookAt(cfg *config.Config, p installation.PlannedStream, stream *daemon.Stream, probe *watcher.Watcher, clients *installation.Clients) *lookAt {
	a := &lookAt{name: p.Name, streams: []*daemon.Stream{stream}}
	a.probe = func(ctx context.Context) error { return probe.Probe(ctx, watcher.From{}) }
	for _, c := range installation.CollectionsRead(cfg, p) {
		a.reads = append(a.reads, func(ctx context.Context) error { return clients.Readable(ctx, c) })
	}
	return a
}

func (a *lookAt) standingBy() []*daemon.Stream {
	return slices.DeleteFunc(slices.Clone(a.streams), func(s *daemon.Stream) bool { return s.Progress().State != daemon.StandingBy })
}

// look looks at what the streams need, if this process does not carry one of them.
func (a *lookAt) look(ctx context.Context) {
	began := time.Now()
	a.idle, a.answered, a.err, a.away = a.standingBy(), false, nil, time.Time{}
	if len(a.idle) == 0 {
		return
	}
	err := within(ctx, a.probe)
	a.answered = err == nil
	if err == nil && (a.read.IsZero() || began.Sub(a.read) >= readPause) {
		err = a.readAll(ctx)
	}
	if err == nil {
		return
	}
	a.err, a.read = fmt.Errorf("streams: %s: %w", a.name, err), time.Time{}
	if !installation.IsRefused(err) {
		a.away = began
	}
}

// readAll reads all collections until one cannot be read. Of several errors it returns the first
// refusal, else the first error in the order of the collections: the same one at each look.
func (a *lookAt) readAll(ctx context.Context) error {
	errs := make([]error, len(a.reads))
	var failed atomic.Bool
	var asking errgroup.Group
	asking.SetLimit(questions)
	for n, read := range a.reads {
		asking.Go(func() error {
			if !failed.Load() {
				errs[n] = within(ctx, read)
				failed.CompareAndSwap(false, errs[n] != nil)
			}
			return nil
		})
	}
	_ = asking.Wait() // No question returns an error here.
	if !failed.Load() {
		a.read = time.Now()
		return nil
	}
	notNil := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	return notNil[max(0, slices.IndexFunc(notNil, installation.IsRefused))]
}

// within bounds a question by questionTime. A question that ran out of time has no answer.
func within(ctx context.Context, ask func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	if err := ask(limited); err != nil {
		return err
	}
	return limited.Err()
}
