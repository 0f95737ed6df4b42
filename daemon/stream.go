package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// Publisher is where a stream's batches go. One Publisher serves one attempt of
// one stream: after an error it is closed and a new one is made.
type Publisher interface {
	// Acquire shuts out any predecessor and returns the stored position, or
	// resumetoken.ErrNone.
	Acquire(ctx context.Context) (resumetoken.Position, error)
	// Commit makes the events and the position durable together, or as close to it
	// as the delivery mode promises.
	Commit(ctx context.Context, b *publisher.Batch) error
	// MaxEventBytes is the largest mapper.Event.Size that the topic takes.
	MaxEventBytes(topic string) int
	Close(ctx context.Context) error
}

// Source is the change stream that a Stream reads; *watcher.Watcher is one.
type Source interface {
	// Fingerprint names the pipeline that the source's tokens belong to.
	Fingerprint() string
	// Begin gives the token of a stream that starts at from, before any change.
	Begin(ctx context.Context, from watcher.From) (bson.Raw, error)
	// Run hands chunks to emit, in order, until ctx ends or an operator must see
	// the error.
	Run(ctx context.Context, from watcher.From, emit func(context.Context, watcher.Chunk) error) error
	// Scan reads the span from a time to a token, both included.
	Scan(ctx context.Context, from bson.Timestamp, until bson.Raw, each func(change bson.Raw)) error
	// Oldest is the time of the oldest change that can still be read.
	Oldest(ctx context.Context) (bson.Timestamp, error)
	// Window is the span of the oplog, as far as the server tells it.
	Window(ctx context.Context) (watcher.Window, error)
	// OpenCursors is the number of cursors open on the server.
	OpenCursors() int64
}

// Start says where a stream begins that has never had a position.
type Start struct {
	// Oldest begins at the oldest change that the oplog still holds.
	Oldest bool
	// At begins at a time; zero means now.
	At time.Time
}

// Options describe one stream.
type Options struct {
	// Name is the stream's name: the key of its position, part of its
	// transactional id.
	Name  string
	Start Start
	// MaxRecords and MaxBytes bound a batch. A batch may exceed them by the changes
	// of one server batch.
	MaxRecords, MaxBytes int
	// Stop holds the kinds for which a failure stops the stream rather than going
	// to the dead-letter topic.
	Stop map[mapper.Kind]bool
	// MaxEventBytes asks anew for what Publisher.MaxEventBytes tells as it was when the
	// Publisher was made. Without it that holds.
	MaxEventBytes func(ctx context.Context, topic string) (int, error)
	// IdleInterval is how often an idle stream's position is stored.
	IdleInterval time.Duration
	// SaveInterval is how long after a batch its position is stored at the latest, where
	// the Publisher does not store it with the batch; zero where it does.
	SaveInterval time.Duration
	// SeenWindow is how far before its position a stream reads again, after a
	// start, which $everything requests had been seen. Zero switches it off.
	SeenWindow time.Duration
	// SeenRequests bounds the number of requests that are remembered.
	SeenRequests int
	// Patience is how long MongoDB may take to answer before the stream tells that it
	// waits for it.
	Patience Patience
	// DrainTimeout is how long after the end of ctx what was read is still published. A commit
	// that has begun by then ends in its own time: its outcome would not be known otherwise.
	DrainTimeout time.Duration
	// Tracer gets a trace of each batch; nil for none.
	Tracer trace.Tracer
	// MinBackoff and MaxBackoff bound the pause between two attempts.
	MinBackoff, MaxBackoff time.Duration
	// Repairer is asked when the oplog no longer holds the stream's position. Without
	// one the stream ends with the error.
	Repairer Repairer
}

// Stream carries changes of one change stream to Kafka.
type Stream struct {
	opts   Options
	source Source
	// history reads the feeds of AccessedEverything only; nil if there are none.
	history Source
	mapper  *mapper.Mapper
	facts   Facts
	publish func() (Publisher, error)
	log     *zap.Logger

	progress *progress
	// known is the newest position that another process is known to have stored.
	known atomic.Pointer[bson.Timestamp]
	// lost says that the last attempt found the position's history lost.
	lost bool
	wish *wish
}

// NewStream returns a stream. publish makes a Publisher for each attempt. history
// may be nil.
func NewStream(opts Options, source, history Source, m *mapper.Mapper, facts Facts, publish func() (Publisher, error), log *zap.Logger) *Stream {
	return &Stream{
		opts: opts, source: source, history: history, mapper: m, facts: facts, publish: publish,
		log: log.With(zap.String("stream", opts.Name)), progress: newProgress(opts.Name, opts.Patience), wish: newWish(),
	}
}

// Name is the stream's name.
func (s *Stream) Name() string { return s.opts.Name }

// Progress tells how the stream is doing, at any time and from any goroutine.
func (s *Stream) Progress() Progress {
	p := s.progress.snapshot()
	p.OpenCursors = s.source.OpenCursors()
	if s.history != nil {
		p.OpenCursors += s.history.OpenCursors()
	}
	return p
}

// Window tells from when to when the oplog that the stream reads holds changes.
func (s *Stream) Window(ctx context.Context) (watcher.Window, error) { return s.source.Window(ctx) }

// Broke notes that the change stream broke and is being opened again; a watcher
// reports it.
func (s *Stream) Broke(err error) { s.progress.broke(err) }

// Run carries changes until ctx ends, then commits what it has read and returns
// nil, or an error if it could not commit that. It recovers from everything that a restart would mend, in the same way as a
// restart: acquire, read the stored position, reopen. It returns an error that an
// operator must see: *watcher.Error, *PolicyError, resumetoken.ErrFenced,
// publisher's configuration faults.
func (s *Stream) Run(ctx context.Context) error {
	backoff := s.opts.MinBackoff
	for {
		began := time.Now()
		s.progress.state(Acquiring)
		committed, err := s.attempt(ctx)
		if err == nil || (ctx.Err() != nil && !final(err)) {
			s.progress.state(StandingBy)
			if uncommitted(err) {
				return fmt.Errorf("stream %s: stopped before everything read was published; it will be read again: %w", s.opts.Name, err)
			}
			if err != nil && !errors.Is(err, context.Canceled) {
				s.log.Warn("stopped before everything read was published; it will be read again", zap.Error(err))
			}
			return nil
		}
		if errors.Is(err, errToPause) {
			continue
		}
		s.progress.interrupted(err)
		if !s.repairs(err) && final(err) {
			s.progress.state(Stopped)
			return fmt.Errorf("stream %s: %w", s.opts.Name, err)
		}
		if committed || time.Since(began) > s.opts.MaxBackoff {
			// Several short troubles in a row are not one long one.
			backoff = s.opts.MinBackoff
		}
		pause := backoff/2 + rand.N(backoff/2+1) //nolint:gosec // jitter needs no secrecy.
		s.log.Warn("stream interrupted, going on from the stored position", zap.Duration("pause", pause), zap.Error(err))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			s.progress.state(StandingBy)
			return nil
		case <-timer.C:
		}
		backoff = min(backoff*2, s.opts.MaxBackoff)
	}
}

// attempt is one life of the stream: from acquiring it to its end or an error. It
// also tells whether anything but a position has been committed.
func (s *Stream) attempt(ctx context.Context) (committed bool, err error) {
	made, err := s.publish()
	if err != nil {
		return false, err
	}
	p := &witness{Publisher: made, progress: s.progress, tracer: s.opts.Tracer}
	defer func() {
		// What is in flight is committed by now, or lost with the attempt.
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if e := p.Close(closing); e != nil && err == nil {
			err = fmt.Errorf("close publisher: %w", e)
		}
	}()

	position, err := p.Acquire(ctx)
	switch {
	case errors.Is(err, resumetoken.ErrNone):
		if err := s.gone(err); err != nil {
			return false, err
		}
		if position, err = s.first(ctx, p); err != nil {
			return false, err
		}
	case err != nil:
		return false, refused(fmt.Errorf("acquire: %w", err))
	default:
		changed := position.WallTime
		if changed.IsZero() { // as right after a change of the streams
			changed = time.Unix(int64(position.ClusterTime.T), 0).UTC()
		}
		s.log.Info("stream resumes", zap.Time("changed", changed), zap.Uint32("clusterTime", position.ClusterTime.T))
	}
	s.progress.resumed(position)
	if err := s.ahead(ctx, position); err != nil {
		return p.committed, err
	}
	if position, err = s.repaired(ctx, p, position); err != nil {
		return p.committed, err
	}
	err = s.live(ctx, p, position)
	return p.committed, err
}

// closeTimeout bounds the closing of a publisher after its last commit.
const closeTimeout = 10 * time.Second

// first stores where a stream begins, before it reads any change.
func (s *Stream) first(ctx context.Context, p Publisher) (resumetoken.Position, error) {
	var from watcher.From
	switch {
	case s.opts.Start.Oldest:
		at, err := s.source.Oldest(ctx)
		if err != nil {
			return resumetoken.Position{}, err
		}
		from.ClusterTime = at
	case !s.opts.Start.At.IsZero():
		from.ClusterTime = bson.Timestamp{T: uint32(s.opts.Start.At.Unix())}
	}
	token, err := s.source.Begin(ctx, from)
	if err != nil {
		return resumetoken.Position{}, fmt.Errorf("begin stream: %w", err)
	}
	s.progress.answered()
	position := s.position(token, resumetoken.Position{})
	if err := p.Commit(ctx, &publisher.Batch{Position: position}); err != nil {
		return resumetoken.Position{}, fmt.Errorf("store first position: %w", err)
	}
	s.log.Info("stream begins", zap.Uint32("clusterTime", position.ClusterTime.T))
	return position, nil
}

// position is the position of a token, with the times of before where the token
// tells none.
func (s *Stream) position(token bson.Raw, before resumetoken.Position) resumetoken.Position {
	p := resumetoken.Position{
		Stream: s.opts.Name, Token: token, Fingerprint: s.source.Fingerprint(),
		ClusterTime: before.ClusterTime, WallTime: before.WallTime, Published: before.Published,
	}
	if at, ok := resumetoken.ClusterTime(token); ok && at.After(p.ClusterTime) {
		p.ClusterTime = at
	}
	p.Published = resumetoken.Ahead(p.Published, token)
	return p
}
