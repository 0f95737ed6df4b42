package instance

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/replicas"
	"github.com/fhir-cdc/fhir-cdc/wait"
)

// lookPause is between two looks of a stand-by, lookAgain after one that went wrong.
const lookPause, lookAgain = 15 * time.Second, 2 * time.Second

// look finds out which streams this process could carry, with its own logins, rights and
// network: before it takes anything from another process, and again while it stands by. A
// fault of one stream says nothing about the others.
type look struct {
	cfg     *config.Config
	clients *installation.Clients
	at      []*lookAt
	// kafka looks at the brokers, refused is their refusal at the last look.
	kafka   func(context.Context) error
	refused error
	// anew makes a look with the secrets read anew.
	anew func(context.Context) (*look, error)
	log  *zap.Logger
}

// newLook makes clients of its own, which keep no connections: each look logs in anew, so that
// it notices a changed password. The servers show these clients under their own name.
func newLook(ctx context.Context, cfg *config.Config, streams []*daemon.Stream, s *installation.Sink, log *zap.Logger) (*look, error) {
	l := &look{cfg: cfg, clients: installation.NewClients(cfg.Name + "/look"), kafka: s.Look, log: log}
	l.anew = func(ctx context.Context) (*look, error) {
		fresh, _, err := cfg.Refreshed() // A certificate may be another one under the same name.
		if err != nil {
			return nil, err
		}
		return newLook(ctx, fresh, streams, s, log)
	}
	l.clients.Idle = lookAgain / 2
	quick := *cfg
	quick.MongoDB.MaxAwait = installation.HistoryAwait
	for n, p := range installation.Plan(cfg) {
		if p.Slice.Index > 0 {
			last := l.at[len(l.at)-1]
			last.streams = append(last.streams, streams[n])
			continue
		}
		client, err := l.clients.Client(p.Place.URI)
		if err != nil {
			l.clients.Disconnect(ctx, &err)
			return nil, err
		}
		probe, _, err := installation.Watchers(&quick, client, p, mapper.New(p.Mapper), log, nil)
		if err != nil {
			l.clients.Disconnect(ctx, &err)
			return nil, err
		}
		l.at = append(l.at, newLookAt(cfg, p, streams[n], probe, l.clients))
	}
	return l, nil
}

// first looks at MongoDB until it answers for one stream at least, and returns refusals, which
// do not pass by themselves. The other streams wait by themselves once they are carried. Kafka
// was looked at before.
func (l *look) first(ctx context.Context) error {
	backoff := wait.Backoff{Min: l.cfg.Retry.MinBackoff, Max: l.cfg.Retry.MaxBackoff}
	for {
		l.mongoDB(ctx)
		if ctx.Err() != nil {
			return nil
		}
		l.note()
		var answered bool
		var refused, all []error
		for _, at := range l.at {
			answered = answered || at.answered
			all = append(all, at.err)
			if installation.IsRefused(at.err) {
				refused = append(refused, at.err)
			}
		}
		if len(refused) > 0 {
			return errors.Join(refused...)
		}
		err := errors.Join(all...)
		if answered {
			if err != nil {
				l.log.Warn("a part of MongoDB cannot be used yet; its streams wait for it", zap.Error(err))
			}
			return nil
		}
		pause := backoff.Next()
		l.log.Warn("MongoDB cannot be used yet, trying again; no stream is taken before", zap.Duration("pause", pause), zap.Error(err))
		if wait.Sleep(ctx, pause) != nil {
			return nil
		}
	}
}

// again looks from time to time while other processes carry streams, and calls able with the
// abilities of this process. If this process carries nothing, it returns a refused login, which
// secrets and certificates may mend that are read anew. It returns nil when ctx ends.
func (l *look) again(ctx context.Context, partitions map[string]int32, able func(replicas.Abilities)) error {
	var told string
	pause := lookPause
	for wait.Sleep(ctx, pause) == nil {
		if l.carriesAll() {
			told, pause = "", lookPause
			able(nil)
			continue
		}
		l.mongoDB(ctx)
		login := l.loginRefused()
		if login != nil && !l.carriesNothing() && l.renewed(ctx) {
			l.mongoDB(ctx)
			login = l.loginRefused()
		}
		l.brokers(ctx)
		if ctx.Err() != nil {
			return nil
		}
		l.note()
		able(l.abilities(partitions))
		all := []error{l.refused}
		for _, at := range l.at {
			all = append(all, at.err)
		}
		pause = lookPause
		switch err := errors.Join(all...); {
		case err == nil && told != "":
			l.log.Info("this process could carry the streams again that it stands by for")
			told = ""
		case err != nil:
			pause = lookAgain
			if text := err.Error(); text != told {
				l.log.Warn("this process could not carry the streams that it stands by for; others are given them before it", zap.Error(err))
				told = text
			}
		}
		if login != nil && l.cfg.HasFiles() && l.carriesNothing() {
			return login
		}
	}
	return nil
}

// mongoDB looks at MongoDB for the streams that this process does not carry: for each by
// itself, since one cluster may hang while another answers.
func (l *look) mongoDB(ctx context.Context) {
	var looking sync.WaitGroup
	for _, at := range l.at {
		looking.Go(func() { at.look(ctx) })
	}
	looking.Wait()
}

// brokers looks at Kafka, and ignores brokers that do not answer: the group reports that, and
// without the group nobody gets a stream.
func (l *look) brokers(ctx context.Context) {
	l.refused = nil
	if err := within(ctx, l.kafka); installation.IsRefused(err) {
		l.refused = err
	} else if err != nil {
		l.log.Debug("Kafka could not be looked at", zap.Error(err))
	}
}

// renewed makes the clients of the look anew, with secrets read anew. After a password has
// changed, an owner's connections stay logged in, but a login with the old password is refused.
func (l *look) renewed(ctx context.Context) bool {
	if !l.cfg.HasFiles() {
		return false
	}
	next, err := l.anew(ctx)
	if err != nil {
		l.log.Warn("the secrets cannot be read anew", zap.Error(err))
		return false
	}
	l.clients.Disconnect(ctx, &err)
	l.cfg, l.clients, l.at, l.anew = next.cfg, next.clients, next.at, next.anew
	return true
}

// loginRefused is a login that MongoDB refuses, nil if there is none.
func (l *look) loginRefused() error {
	for _, at := range l.at {
		if loginRefused(at.err) {
			return at.err
		}
	}
	return nil
}

// carriesNothing tells whether this process carries no stream now, carriesAll whether it
// carries them all.
func (l *look) carriesNothing() bool {
	return !slices.ContainsFunc(l.at, func(a *lookAt) bool { return len(a.standingBy()) < len(a.streams) })
}

func (l *look) carriesAll() bool {
	return !slices.ContainsFunc(l.at, func(a *lookAt) bool { return len(a.standingBy()) > 0 })
}

// note tells the streams the result of the look at them.
func (l *look) note() {
	for _, at := range l.at {
		err := errors.Join(at.err, l.refused)
		for _, s := range at.idle {
			s.Looked(err, installation.IsRefused(err), at.away)
		}
	}
}

// abilities are those of the last look by the partition that stands for a stream in the group.
func (l *look) abilities(partitions map[string]int32) replicas.Abilities {
	all := replicas.Abilities{}
	for _, at := range l.at {
		err := errors.Join(at.err, l.refused)
		if err == nil {
			continue
		}
		ability := replicas.Away
		if installation.IsRefused(err) {
			ability = replicas.Unable
		}
		for _, s := range at.idle {
			p := partitions[s.Name()]
			all[p] = max(all[p], ability)
		}
	}
	return all
}
