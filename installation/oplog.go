package installation

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/replay"
)

// Reread prepares what every command that reads the oplog again begins with: the kinds
// that were chosen, and the streams.
func (o *Installation) Reread(kindNames []string, prefix string, stderr io.Writer) ([]mapper.Kind, []replay.StreamOplog, error) {
	kinds, err := KindsOf(o.Config, kindNames)
	if err != nil {
		return nil, nil, err
	}
	log, err := CommandLog(o.Config, stderr)
	if err != nil {
		return nil, nil, err
	}
	streams, err := o.oplogStreams(prefix, log)
	return kinds, streams, err
}

// oplogStreams makes the installation's streams for reading them again, without
// anything that could disturb the live ones. prefix goes before the topics of events.
func (o *Installation) oplogStreams(prefix string, log *zap.Logger) ([]replay.StreamOplog, error) {
	var streams []replay.StreamOplog
	quick := *o.Config
	quick.MongoDB.MaxAwait = HistoryAwait // nothing is waited for at the end
	for _, p := range o.Plan {
		client, err := o.Clients.Client(p.Place.URI)
		if err != nil {
			return nil, err
		}
		m := mapper.New(prefixed(p.Mapper, prefix))
		source, requests, err := Watchers(&quick, client, p, m, log, nil)
		if err != nil {
			return nil, err
		}
		stream := replay.StreamOplog{Name: p.Name, Mapper: m, Oplog: source}
		if requests != nil {
			stream.Requests = requests
		}
		streams = append(streams, stream)
	}
	return streams, nil
}

func prefixed(m mapper.Config, prefix string) mapper.Config {
	topics := map[mapper.Kind]string{}
	for kind, topic := range m.Topics {
		topics[kind] = prefix + topic
	}
	m.Topics = topics
	return m
}

// StreamNamed keeps the stream of a name, or all if there is no name.
func StreamNamed(streams []replay.StreamOplog, name string) ([]replay.StreamOplog, error) {
	if name == "" {
		return streams, nil
	}
	var names []string
	for _, s := range streams {
		if s.Name == name {
			return []replay.StreamOplog{s}, nil
		}
		names = append(names, s.Name)
	}
	return nil, Usagef("--stream %q: there is no such stream; the configuration has %s", name, strings.Join(names, ", "))
}

// NewReader reads the oplog as the streams do.
func (o *Installation) NewReader(facts daemon.Facts, maxEventBytes func(string) int, stderr io.Writer) *replay.Reader {
	cfg := o.Config
	log, err := CommandLog(cfg, stderr)
	if err != nil {
		log = zap.NewNop() // reread has had it
	}
	return &replay.Reader{
		Lags:  WarnOfLag(log),
		Facts: facts, SeenWindow: cfg.Facts.AccessedEverythingWindow, SeenRequests: cfg.Facts.SeenRequests, MaxEventBytes: maxEventBytes,
		LeftOut: func(stream string, w mapper.Window) {
			_, _ = fmt.Fprintf(stderr, "fhir-cdc: stream %s: the window from %s to %s is left out, because only a part of it can be read\n", stream,
				replay.Clock(bson.Timestamp{T: w.Start}), replay.Clock(bson.Timestamp{T: w.End}))
		},
		Forgotten: func(stream string, err error) {
			_, _ = fmt.Fprintf(stderr, "fhir-cdc: stream %s: which $everything requests came right before could not be read (%v); one may have its event twice, with one id\n", stream, err)
		},
	}
}

// NewestTimes asks every stream's cluster for its newest time, which also finds out
// whether the cluster can be used at all.
func NewestTimes(ctx context.Context, streams []replay.StreamOplog) ([]bson.Timestamp, error) {
	times := make([]bson.Timestamp, len(streams))
	for i, s := range streams {
		at, err := s.Oplog.Now(ctx)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", s.Name, err)
		}
		times[i] = at
	}
	return times, nil
}

// KindsOf reads a list of kinds. A kind that is not switched on is refused.
func KindsOf(cfg *config.Config, names []string) ([]mapper.Kind, error) {
	on := map[mapper.Kind]bool{}
	for _, kind := range mapper.Kinds() {
		on[kind.Name] = cfg.Events.Of(kind.Name).Enabled
	}
	var kinds []mapper.Kind
	for _, name := range names {
		kind := mapper.Kind(name)
		switch enabled, known := on[kind]; {
		case !known:
			return nil, Usagef("--kinds %q is none of %s", name, KindNames())
		case !enabled:
			return nil, Usagef("--kinds %s: the configuration has events.%s.enabled: false", name, name)
		}
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return kinds, nil
}

// KindNames are the names of all kinds, for messages and help.
func KindNames() string {
	var names []string
	for _, kind := range mapper.Kinds() {
		names = append(names, string(kind.Name))
	}
	return strings.Join(names, ", ")
}

// KindsOfResources are the names of the kinds whose events are of resource types.
func KindsOfResources() string {
	var names []string
	for _, kind := range mapper.Kinds() {
		if len(kind.Resources) > 0 {
			names = append(names, string(kind.Name))
		}
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// OplogTime is a time as the oplog has it.
func OplogTime(t time.Time) bson.Timestamp { return bson.Timestamp{T: uint32(t.Unix())} }

// WarnOfLag says now and then which collection cannot be read because no majority has what
// the primary has. Several goroutines may call it.
func WarnOfLag(log *zap.Logger) func(collection string) {
	var telling sync.Mutex
	var told time.Time
	return func(collection string) {
		telling.Lock()
		defer telling.Unlock()
		if collection == "" || time.Since(told) < lagWarning {
			return
		}
		told = time.Now()
		log.Warn("waiting for a majority of the replica set's members to have what the primary has: see that the secondaries run and keep up", zap.String("collection", collection))
	}
}

// lagWarning is how often it is said that a majority is waited for.
const lagWarning = 10 * time.Second
