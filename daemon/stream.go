package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/wait"
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
	// History names the history of the oplog that the source was opened in last; "" if it
	// is not known.
	History() string
	// Begin gives the token of a stream that starts at from, before any change.
	Begin(ctx context.Context, from watcher.From) (bson.Raw, error)
	// Run hands chunks to emit, in order, until ctx ends or an operator must see
	// the error.
	Run(ctx context.Context, from watcher.From, emit func(context.Context, watcher.Chunk) error) error
	// Scan reads the span from a time, in a history, to a token, both included.
	Scan(ctx context.Context, from watcher.From, until bson.Raw, each func(change bson.Raw)) error
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
	// MaxDelay is how long the stream rests after a commit at most, while what comes joins the
	// next batch; zero is no rest.
	MaxDelay time.Duration
	// Stop holds the kinds for which a failure stops the stream rather than going
	// to the dead-letter topic.
	Stop map[mapper.Kind]bool
	// MaxEventBytes asks the brokers for a topic's limit as it is now; Publisher.MaxEventBytes
	// tells it as it was when the Publisher was made. nil asks nothing.
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
	// AnswerLimits are how long MongoDB may take to answer before Progress tells that the
	// stream waits for it.
	AnswerLimits AnswerLimits
	// DrainTimeout is how long after the end of ctx what was read is still published. A commit
	// that has begun by then ends in its own time: its outcome would not be known otherwise.
	DrainTimeout time.Duration
	// Tracer gets a trace of each batch; nil for none.
	Tracer trace.Tracer
	// MinBackoff and MaxBackoff bound the pause between two attempts.
	MinBackoff, MaxBackoff time.Duration
	// NoteWhole puts on record what happened to a collection or database as a whole; nil
	// for no record.
	NoteWhole func(ctx context.Context, what string, n mapper.Namespace) error
	// Repairer is asked when the oplog no longer holds the stream's position. Without
	// one the stream ends with the error.
	Repairer Repairer
}

// Parts are what a stream is made of.
type Parts struct {
	Source Source
	// History reads the feeds of AccessedEverything only; nil if there are none.
	History Source
	Mapper  *mapper.Mapper
	Facts   Facts
	// Publish makes a Publisher for each attempt.
	Publish func() (Publisher, error)
}

// Stream carries changes of one change stream to Kafka.
type Stream struct {
	opts  Options
	parts Parts
	log   *zap.Logger

	progress *progress
	// lost says that the last attempt found the position's history lost.
	lost bool
	// bound outlives an attempt, which ends with each transaction that was not done in time.
	bound        bound
	pauseRequest *pauseRequest
	// mostOpen bounds a window's patients and persons.
	mostOpen int
}

// NewStream returns a stream of the parts.
func NewStream(opts Options, parts Parts, log *zap.Logger) *Stream {
	var resources []string
	for _, c := range parts.Mapper.Collections(mapper.Current) {
		resources = append(resources, mapper.ResourceOf(c.Namespace.Collection))
	}
	return &Stream{
		opts: opts, parts: parts, log: log.With(zap.String("stream", opts.Name)),
		progress: newProgress(opts.Name, opts.AnswerLimits, resources), pauseRequest: newPauseRequest(),
		mostOpen: maxOpen,
	}
}

// Name is the stream's name.
func (s *Stream) Name() string { return s.opts.Name }

// Progress tells how the stream is doing, at any time and from any goroutine.
func (s *Stream) Progress() Progress {
	p := s.progress.snapshot()
	p.OpenCursors = s.parts.Source.OpenCursors()
	if s.parts.History != nil {
		p.OpenCursors += s.parts.History.OpenCursors()
	}
	return p
}

// Window tells from when to when the oplog that the stream reads holds changes.
func (s *Stream) Window(ctx context.Context) (watcher.Window, error) {
	return s.parts.Source.Window(ctx)
}

// Broke notes that the change stream broke and is being opened again; a watcher
// reports it.
func (s *Stream) Broke(err error) { s.progress.broke(err) }

// Refused notes that the brokers refuse records or requests, and that the client tries again; a
// publisher reports it.
func (s *Stream) Refused(err error) { s.progress.refused(err) }

// SawPosition notes the position of the stream that another process has stored. It is zero if the
// stream cannot go on from that position, because it has been handed over to other streams.
func (s *Stream) SawPosition(at resumetoken.Position) {
	s.progress.sawPosition(at)
}

// Missing notes that no position of the stream is stored any more, although SawPosition was called
// for one. A stand-by that took the stream over would have to wait, as the owner does. why is
// the reason, or nil. Without a position that this process has known, Missing does nothing.
func (s *Stream) Missing(why error) {
	if err := s.positionLost(resumetoken.ErrNone); err != nil {
		if why != nil {
			err = fmt.Errorf("%w: %w", err, why)
		}
		s.progress.missing(err)
	}
}

// Looked notes whether this process, while it does not carry the stream, could carry it with
// its own logins, rights and network: err is nil if it could. refused says that err does not
// pass by itself. away is the time since which MongoDB has not answered; zero if it answers.
func (s *Stream) Looked(err error, refused bool, away time.Time) {
	s.progress.looked(err, refused, away)
}

// Run carries changes until ctx ends, then commits the changes that it has read and returns nil,
// or an error if it could not commit them. It recovers from everything that a restart would mend,
// in the same way as a restart: acquire, read the stored position, reopen. Other errors need an
// operator, and Run returns them: *watcher.Error, *PolicyError, resumetoken.ErrFenced,
// *publisher.ConfigurationError.
func (s *Stream) Run(ctx context.Context) error {
	backoff := wait.Backoff{Min: s.opts.MinBackoff, Max: s.opts.MaxBackoff}
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
		err = s.repairs(err)
		s.progress.interrupted(err)
		if final(err) {
			s.progress.state(Stopped)
			return fmt.Errorf("stream %s: %w", s.opts.Name, err)
		}
		if committed || time.Since(began) > s.opts.MaxBackoff {
			// Several short troubles in a row are not one long one.
			backoff.Reset()
		}
		pause := backoff.Next()
		s.log.Warn("stream interrupted, going on from the stored position", zap.Duration("pause", pause), zap.Error(err))
		if wait.Sleep(ctx, pause) != nil {
			s.progress.state(StandingBy)
			return nil
		}
	}
}

// attempt is one life of the stream: from acquiring it to its end or an error. It
// also tells whether anything but a position has been committed.
func (s *Stream) attempt(ctx context.Context) (committed bool, err error) {
	made, err := s.parts.Publish()
	if err != nil {
		return false, err
	}
	p := &countingPublisher{Publisher: made, stream: s}
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
		if err := s.positionLost(err); err != nil {
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
		s.log.Info("stream resumes", zap.Time("changed", changed), zap.String("clusterTime", clusterTime(position.ClusterTime)))
	}
	s.progress.resumed(position)
	if err := s.aheadOfCluster(ctx, position); err != nil {
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
		at, err := s.parts.Source.Oldest(ctx)
		if err != nil {
			return resumetoken.Position{}, err
		}
		from.ClusterTime = at
	case !s.opts.Start.At.IsZero():
		// The oplog of a set that is younger than Start.At begins after it: its first entry will do.
		from = watcher.From{ClusterTime: bson.Timestamp{T: uint32(s.opts.Start.At.Unix())}, OrFirst: true}
	}
	token, err := s.parts.Source.Begin(ctx, from)
	if err != nil {
		return resumetoken.Position{}, fmt.Errorf("begin stream: %w", err)
	}
	s.progress.answered()
	position := s.position(token, resumetoken.Position{})
	if s.parts.Mapper.Windowed() {
		position.Window = &resumetoken.Window{}
		if !s.opts.Start.Oldest {
			// The first window is whole: so a replay gives the same events.
			begin := watcher.From{ClusterTime: bson.Timestamp{T: s.parts.Mapper.WindowAt(position.ClusterTime.T).Start}, OrFirst: true}
			if token, err = s.parts.Source.Begin(ctx, begin); err != nil {
				return resumetoken.Position{}, fmt.Errorf("begin stream: %w", err)
			}
			position.ClusterTime = bson.Timestamp{}
			position = s.position(token, position)
		}
	}
	position.WallTime = time.Unix(int64(position.ClusterTime.T), 0).UTC() // no change before it is the stream's
	if err := p.Commit(ctx, &publisher.Batch{Position: position}); err != nil {
		return resumetoken.Position{}, fmt.Errorf("store first position: %w", err)
	}
	s.log.Info("stream begins", zap.Time("changed", position.WallTime), zap.String("clusterTime", clusterTime(position.ClusterTime)))
	return position, nil
}

// clusterTime spells a cluster time as fhir-cdc position set --from-cluster-time takes it.
func clusterTime(t bson.Timestamp) string { return fmt.Sprintf("%d,%d", t.T, t.I) }

// position is the position of a token. Where the token has no time, it has the times of the
// position before.
func (s *Stream) position(token bson.Raw, before resumetoken.Position) resumetoken.Position {
	p := resumetoken.Position{
		Stream: s.opts.Name, Token: token, Fingerprint: s.parts.Source.Fingerprint(), History: cmp.Or(s.parts.Source.History(), before.History),
		ClusterTime: before.ClusterTime, WallTime: before.WallTime, Published: before.Published, Window: before.Window,
	}
	if at, ok := tokens.ClusterTime(token); ok && at.After(p.ClusterTime) {
		p.ClusterTime = at
	}
	p.Published = resumetoken.Ahead(p.Published, token)
	return p
}

// errPositionLost says that the store no longer has the stream's position, although this
// process knows that there was one: somebody has deleted the position topic, for example. To
// begin as a new stream does would skip changes without a word.
var errPositionLost = errors.New("the position that the stream had is no longer stored")

// positionLost is errPositionLost for the store's answer that there is no position (none), if the
// stream had one and no operator has deleted it.
func (s *Stream) positionLost(none error) error {
	had := s.progress.snapshot().ClusterTime
	if had.T == 0 || errors.Is(none, resumetoken.ErrDeleted) {
		return nil
	}
	return fmt.Errorf("%w: it was at cluster time %s (%s)", errPositionLost, clusterTime(had), time.Unix(int64(had.T), 0).UTC().Format(time.RFC3339))
}

// MaxAhead is how much later a position may be than the newest operation that a server tells:
// a member that lags, or a router, may not know of the newest one yet.
const MaxAhead = time.Minute

// aheadLimit bounds the question for the newest operation. If the cluster does not answer,
// opening the change stream finds out why.
const aheadLimit = 5 * time.Second

// aheadOfCluster is an error if the stored position is later than the cluster's newest
// operation, because it is of another cluster for example: the stream would publish none of
// the changes until then, in silence. The stream tries again until somebody sets the position
// or the cluster has come to it.
func (s *Stream) aheadOfCluster(ctx context.Context, position resumetoken.Position) error {
	asking, cancel := context.WithTimeout(ctx, aheadLimit)
	defer cancel()
	window, err := s.parts.Source.Window(asking)
	if err != nil || window.Newest.IsZero() {
		return nil //nolint:nilerr // opening the stream tells of what is wrong with the cluster.
	}
	at := func(t uint32) time.Time { return time.Unix(int64(t), 0).UTC() }
	stored, newest := at(position.ClusterTime.T), at(window.Newest.T)
	if stored.Sub(newest) <= MaxAhead {
		return nil
	}
	return fmt.Errorf("the stored position, %s, lies ahead of the cluster, whose newest operation is of %s: what changes until then would never be published; set it with fhir-cdc position set",
		stored.Format(time.RFC3339), newest.Format(time.RFC3339))
}
