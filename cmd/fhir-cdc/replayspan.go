package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// spanFlags say which part of the oplog is read.
type spanFlags struct {
	fromTime, toTime   *pastTime
	fromToken, toToken *resumeToken
}

func addSpanFlags(cmd *cobra.Command) *spanFlags {
	f := &spanFlags{
		fromTime: addTimeFlag(cmd, "from-time", "first change, by the time it was committed"),
		toTime:   addTimeFlag(cmd, "to-time", "end, not included; without any the present"),
	}
	f.fromToken = addTokenFlag(cmd, "from-token", "begin after the change of this resume `TOKEN`")
	f.toToken = addTokenFlag(cmd, "to-token", "end with the change of this resume `TOKEN`")
	return f
}

// check finds flags that contradict each other. Cobra would find them too, but not as
// faults of usage.
func (f *spanFlags) check(cmd *cobra.Command) error {
	if n := given(cmd, "from-time", "from-token"); n != 1 {
		return &usageError{"say where to begin, with one of --from-time and --from-token"}
	}
	if given(cmd, "to-time", "to-token") > 1 {
		return &usageError{"give one of --to-time and --to-token"}
	}
	return nil
}

// given counts the flags that were set; one that is set to false is not.
func given(cmd *cobra.Command, names ...string) (n int) {
	for _, name := range names {
		f := cmd.Flags().Lookup(name)
		if f.Changed && (f.Value.Type() != "bool" || f.Value.String() == "true") {
			n++
		}
	}
	return n
}

// jobs are the streams with the span to read of each; now is each cluster's newest
// time.
func (f *spanFlags) jobs(streams []replay.Stream, now []bson.Timestamp) ([]replay.Job, error) {
	if len(streams) > 1 && (f.fromToken.raw != nil || f.toToken.raw != nil) {
		return nil, &usageError{"a resume token belongs to one stream: say which with --stream"}
	}
	var jobs []replay.Job
	for i, s := range streams {
		span := watcher.Span{From: at(f.fromTime.Time), UntilTime: now[i]}
		if f.fromToken.raw != nil {
			span.From, span.After = f.fromToken.at, f.fromToken.raw
		}
		if end := replay.Before(at(f.toTime.Time)); !f.toTime.IsZero() && !end.After(now[i]) {
			span.UntilTime = end
		}
		if f.toToken.raw != nil {
			span.Until, span.UntilTime = f.toToken.raw, f.toToken.at
		}
		switch {
		case span.From.After(span.UntilTime):
			return nil, &usageError{fmt.Sprintf("the span begins at %s and ends before that, at %s", replay.Clock(span.From), replay.Clock(span.UntilTime))}
		case span.UntilTime.After(now[i]):
			return nil, &usageError{fmt.Sprintf("--to-token lies in the future of stream %s, whose newest change is of %s", s.Name, replay.Clock(now[i]))}
		}
		jobs = append(jobs, replay.Job{Stream: s, Span: span})
	}
	return jobs, nil
}

// end is how the end was given, for a command line that goes on to the same.
func (f *spanFlags) end() string {
	switch {
	case f.toToken.raw != nil:
		return " --to-token " + f.toToken.text
	case !f.toTime.IsZero():
		return " --to-time " + f.toTime.Format(time.RFC3339)
	}
	return ""
}

// resumeToken is a flag's value: a resume token as MongoDB, /status and the position
// commands show it, or its text alone.
type resumeToken struct {
	text string
	raw  bson.Raw
	at   bson.Timestamp
}

func addTokenFlag(cmd *cobra.Command, name, usage string) *resumeToken {
	t := &resumeToken{}
	cmd.Flags().Var(t, name, usage+`: its text, or JSON such as {"_data": "8269…"}`)
	return t
}

// String implements pflag.Value.
func (t *resumeToken) String() string { return t.text }

// Type implements pflag.Value; it names the value in the help text.
func (t *resumeToken) Type() string { return "TOKEN" }

// Set implements pflag.Value.
func (t *resumeToken) Set(text string) error {
	data := text
	var form struct {
		Data string `json:"_data"`
	}
	if json.Unmarshal([]byte(text), &form) == nil {
		data = form.Data
	}
	data = strings.ToUpper(data) // as the server writes it: tokens are compared as texts
	raw, err := bson.Marshal(bson.D{{Key: "_data", Value: data}})
	if err != nil {
		return err
	}
	_, err = hex.DecodeString(data)
	at, ok := resumetoken.ClusterTime(raw)
	switch {
	case (err != nil && !errors.Is(err, hex.ErrLength)) || !strings.HasPrefix(data, "82"):
		return errors.New("it is no resume token: those begin with 82 and have hexadecimal digits only")
	case !ok || !resumetoken.Whole(raw):
		return errors.New("it is no whole resume token: it is cut short, or changed; fhir-cdc position list --output json and history show whole ones")
	}
	t.text, t.raw, t.at = data, raw, at
	return nil
}
