package main

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// clusterTimeFlag is a flag's value: a cluster time as logs and /status show it.
type clusterTimeFlag struct{ at bson.Timestamp }

func addClusterTimeFlag(cmd *cobra.Command, name, usage string) *clusterTimeFlag {
	t := &clusterTimeFlag{}
	cmd.Flags().Var(t, name, usage+" (seconds and ordinal as the daemon's messages have them, such as 1795524720,73)")
	return t
}

// String implements pflag.Value.
func (t *clusterTimeFlag) String() string {
	if t.at.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d,%d", t.at.T, t.at.I)
}

// Type implements pflag.Value; it names the value in the help text.
func (t *clusterTimeFlag) Type() string { return "T,I" }

// Set implements pflag.Value.
func (t *clusterTimeFlag) Set(text string) error {
	parts := regexp.MustCompile(`^([0-9]+),([0-9]+)$`).FindStringSubmatch(text)
	if parts == nil {
		return fmt.Errorf("it is no cluster time: give seconds and ordinal, such as 1795524720,73")
	}
	seconds, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil {
		return fmt.Errorf("it is no cluster time: %w", err)
	}
	ordinal, err := strconv.ParseUint(parts[2], 10, 32)
	if err != nil {
		return fmt.Errorf("it is no cluster time: %w", err)
	}
	at := bson.Timestamp{T: uint32(seconds), I: uint32(ordinal)}
	switch {
	case timeOf(at).After(time.Now()):
		return fmt.Errorf("%s is in the future", timeOf(at).UTC().Format(time.RFC3339))
	case at.T == 0:
		return fmt.Errorf("%s is before all data", text)
	}
	t.at = at
	return nil
}

// afterTime is the token after the change of a cluster time, given the one before it. Where
// several changes have that time, as those of a transaction, the stream may have stood
// between them: they come again, for to leave one out would be worse.
func afterTime(ctx context.Context, w *watcher.Watcher, at bson.Timestamp, before bson.Raw) (bson.Raw, error) {
	token, changes := before, 0
	err := w.ReadSpan(ctx, watcher.Span{From: at, UntilTime: at}, func(_ context.Context, c watcher.Chunk) error {
		for _, raw := range c.Changes {
			if id, ok := raw.Lookup("_id").DocumentOK(); ok {
				token = bytes.Clone(id)
			}
			changes++
		}
		return nil
	})
	if err != nil || changes != 1 {
		return before, err
	}
	return token, nil
}
