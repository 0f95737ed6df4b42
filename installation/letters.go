package installation

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replay"
)

// retryWork is the same for all retries of dead letters, so that a second one of a stream
// fences the first.
const retryWork = "dead-letters"

// Letter is a dead letter, and whether it has been retried.
type Letter struct {
	publisher.DeadLetter
	// Retried says that its event has been published since.
	Retried bool `json:"retried"`
}

// Letters are the dead letters since a time.
func (o *Installation) Letters(ctx context.Context, since time.Time) ([]Letter, error) {
	if err := o.MayRead(ctx, o.Config.Topics.DeadLetters, o.Config.Topics.Audit); err != nil {
		return nil, err
	}
	all, err := o.Sink.ReadDeadLetters(ctx, since)
	if err != nil {
		return nil, err
	}
	done, err := o.Sink.RetriedLetters(ctx)
	if err != nil {
		return nil, err
	}
	return lettersOf(all, done), nil
}

func lettersOf(all []publisher.DeadLetter, done func(*publisher.DeadLetter) bool) []Letter {
	letters := make([]Letter, len(all))
	for i := range all {
		letters[i] = Letter{all[i], done(&all[i])}
	}
	return letters
}

// LettersAt are the dead letters at places.
func LettersAt(letters []Letter, places []string) (some []Letter, err error) {
	for _, place := range places {
		i := slices.IndexFunc(letters, func(l Letter) bool { return slices.Contains(l.Places(), place) })
		if i < 0 {
			return nil, Usagef("there is no dead letter at %s; fhir-cdc dead-letters list names them", place)
		}
		if !slices.ContainsFunc(some, func(l Letter) bool { return l.Place == letters[i].Place }) {
			some = append(some, letters[i])
		}
	}
	return some, nil
}

// RetryLetters retries the dead letters at places, or without places all since a time that
// have not been retried. A dry run only says what would become of them.
func (o *Installation) RetryLetters(ctx context.Context, places []string, since time.Time, dryRun bool, stderr io.Writer) ([]replay.Retried, error) {
	letters, err := o.Letters(ctx, since)
	if err == nil && len(places) > 0 {
		letters, err = LettersAt(letters, places)
	}
	if err != nil {
		return nil, err
	}
	var chosen []publisher.DeadLetter
	for _, l := range letters {
		if len(places) > 0 || !l.Retried {
			chosen = append(chosen, l.DeadLetter)
		}
	}
	slices.SortStableFunc(chosen, func(a, b publisher.DeadLetter) int { return a.At().Compare(b.At()) })
	_, streams, err := o.Reread(nil, "", stderr)
	if err != nil {
		return nil, err
	}
	if err := o.ReachAll(ctx, ""); err != nil {
		return nil, err
	}
	need := publisher.Requirements{Events: o.Sink.Requirements("").Events}
	Requiring(&need, nil, need.Events...) // to look
	if !dryRun {
		need = o.Sink.Requirements("")
		need.Positions, need.DeadLetters = "", ""
		need.TransactionalIDs = TransactionalIDs(o.Config, retryWork)
		Requiring(&need, ToReadAndWrite(), need.Audit)
	}
	if err := o.HaveTopics(ctx, need); err != nil {
		return nil, err
	}
	facts, err := o.NewFacts()
	if err != nil {
		return nil, err
	}
	r := &replay.LetterRetry{Reader: o.NewReader(facts, o.Sink.Options("").MaxEventBytes, stderr), Done: o.Sink.RetriedLetters}
	if !dryRun {
		r.Open = func(ctx context.Context, stream string) (replay.Publisher, error) {
			return o.Sink.OpenDetached(ctx, stream, retryWork+"/"+stream, o.Config.Topics.DeadLetters)
		}
		r.Record = func(stream string, retried []publisher.DeadLetter) (kgo.Record, error) {
			return o.Sink.RetryRecord(Operator(), stream, retried)
		}
	}
	return r.Run(ctx, streams, chosen)
}
