package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"
)

const (
	database   = "fhir"
	collection = "Consent_4_0_0"

	insertBatch = 1000
	// Two writers fill the backlog: there are two cores.
	backlogWriters = 2
	// More writers than a rate needs, so that a slow write delays few others.
	rateWriters = 8
)

// writeBacklog inserts n documents as fast as batches go. It returns a time, in
// whole seconds as fhir-cdc's setting start takes it, at or before the first of
// them and after everything that was written earlier.
func writeBacklog(ctx context.Context, client *mongo.Client, run string, n int) (time.Time, error) {
	consents := client.Database(database).Collection(collection)
	before, err := operationTime(ctx, client)
	if err != nil {
		return time.Time{}, err
	}
	from := before
	for ticker := time.NewTicker(50 * time.Millisecond); from.T <= before.T; {
		select {
		case <-ctx.Done():
			ticker.Stop()
			return time.Time{}, context.Cause(ctx)
		case <-ticker.C:
		}
		// A write moves the operation time on an idle server.
		if _, err := client.Database("bench").Collection("clock").InsertOne(ctx, bson.D{}); err != nil {
			return time.Time{}, fmt.Errorf("write to the clock: %w", err)
		}
		if from, err = operationTime(ctx, client); err != nil {
			return time.Time{}, err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range backlogWriters {
		group.Go(func() error {
			for {
				first := int(next.Add(insertBatch)) - insertBatch
				if first >= n {
					return nil
				}
				batch := make([]bson.D, 0, insertBatch)
				for number := first; number < min(first+insertBatch, n); number++ {
					batch = append(batch, document{run: run, number: number, written: time.Now()}.consent())
				}
				if _, err := consents.InsertMany(ctx, batch, options.InsertMany().SetOrdered(false)); err != nil {
					return fmt.Errorf("write the backlog: %w", err)
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return time.Time{}, err
	}
	return time.Unix(int64(from.T), 0).UTC(), nil
}

// writeAtRate inserts n documents, each by itself, rate of them a second. It
// returns how late the latest was.
func writeAtRate(ctx context.Context, client *mongo.Client, run string, n, rate int) (time.Duration, error) {
	consents := client.Database(database).Collection(collection)
	group, ctx := errgroup.WithContext(ctx)
	var next, latest atomic.Int64
	start := time.Now()
	for range rateWriters {
		group.Go(func() error {
			timer := time.NewTimer(0)
			defer timer.Stop()
			for {
				number := int(next.Add(1)) - 1
				if number >= n {
					return nil
				}
				due := start.Add(time.Duration(number) * time.Second / time.Duration(rate))
				timer.Reset(time.Until(due))
				select {
				case <-ctx.Done():
					return context.Cause(ctx)
				case <-timer.C:
				}
				d := document{run: run, number: number, written: time.Now()}
				raise(&latest, int64(d.written.Sub(due)))
				if _, err := consents.InsertOne(ctx, d.consent()); err != nil {
					return fmt.Errorf("write document %d: %w", number, err)
				}
			}
		})
	}
	err := group.Wait()
	return time.Duration(latest.Load()), err
}

func raise(highest *atomic.Int64, value int64) {
	for {
		old := highest.Load()
		if value <= old || highest.CompareAndSwap(old, value) {
			return
		}
	}
}

// operationTime is the time of the server's last write.
func operationTime(ctx context.Context, client *mongo.Client) (bson.Timestamp, error) {
	reply, err := client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Raw()
	if err != nil {
		return bson.Timestamp{}, fmt.Errorf("ask for the operation time: %w", err)
	}
	t, i, ok := reply.Lookup("operationTime").TimestampOK()
	if !ok {
		return bson.Timestamp{}, fmt.Errorf("ask for the operation time: not a replica set")
	}
	return bson.Timestamp{T: t, I: i}, nil
}
