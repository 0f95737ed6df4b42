package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// needed is the $project of the fields that an event is made of.
func needed() bson.D {
	var fields bson.D
	for _, f := range []string{
		"operationType", "clusterTime", "wallTime", "ns", "documentKey",
		"fullDocument.id", "fullDocument.resourceType", "fullDocument._uuid",
		"fullDocument.meta.versionId", "fullDocument.meta.lastUpdated",
	} {
		fields = append(fields, bson.E{Key: f, Value: 1})
	}
	return fields
}

// openStream opens a change stream over the Consents. A zero from means now.
func openStream(ctx context.Context, client *mongo.Client, from time.Time) (*mongo.ChangeStream, error) {
	o := options.ChangeStream().SetFullDocument(options.UpdateLookup)
	if !from.IsZero() {
		o.SetStartAtOperationTime(&bson.Timestamp{T: uint32(from.Unix())})
	}
	pipeline := mongo.Pipeline{bson.D{{Key: "$project", Value: needed()}}}
	stream, err := client.Database(database).Collection(collection).Watch(ctx, pipeline, o)
	if err != nil {
		return nil, fmt.Errorf("open change stream: %w", err)
	}
	return stream, nil
}

// bareResult is what the bare change stream reports on standard output.
type bareResult struct {
	Seconds float64 `json:"seconds"` // from the first change to the last
	FirstMS float64 `json:"first_ms"`
	CPU     float64 `json:"cpu_s"`
	RSS     float64 `json:"rss_mib"`
}

// runBareStream is the child process of the measurement "bare change stream": it
// reads -n changes and drops them. No pipeline can be faster.
func runBareStream(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("stream", flag.ContinueOnError)
	uri := flags.String("mongo", "", "connection string")
	from := flags.Int64("from", 0, "Unix second to start at")
	n := flags.Int("n", 0, "changes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	start := time.Now()
	client, err := mongo.Connect(options.Client().ApplyURI(*uri))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = client.Disconnect(context.Background()) }()
	stream, err := openStream(ctx, client, time.Unix(*from, 0))
	if err != nil {
		return err
	}
	defer stream.Close(context.Background())
	var first time.Time
	for range *n {
		if !stream.Next(ctx) {
			return fmt.Errorf("read change stream: %w", stream.Err())
		}
		if first.IsZero() {
			first = time.Now()
		}
	}
	return json.NewEncoder(stdout).Encode(bareResult{
		Seconds: time.Since(first).Seconds(), FirstMS: milliseconds(first.Sub(start)),
		CPU: cpuTime(os.Getpid()).Seconds(), RSS: peakMemory(os.Getpid()),
	})
}

// changes is what a reader hands on at once: copies, and the token after them.
type changes struct {
	raw   []bson.Raw
	token bson.Raw
}

// readAhead reads the stream in a goroutine, so that the next answer of the server
// is under way while this one is worked on. It returns when ctx ends or the stream
// fails.
func readAhead(ctx context.Context, stream *mongo.ChangeStream, out chan<- changes) error {
	const most = 512
	defer close(out)
	var block []byte
	var c changes
	for stream.Next(ctx) {
		if cap(block)-len(block) < len(stream.Current) {
			block = make([]byte, 0, max(1<<20, len(stream.Current)))
		}
		at := len(block)
		block = append(block, stream.Current...)
		c.raw = append(c.raw, bson.Raw(block[at:len(block):len(block)]))
		if len(c.raw) < most && stream.RemainingBatchLength() > 0 {
			continue
		}
		c.token = bytes.Clone(stream.ResumeToken())
		select {
		case out <- c:
		case <-ctx.Done():
			return nil
		}
		c = changes{raw: make([]bson.Raw, 0, most)}
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("read change stream: %w", stream.Err())
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
