package lookup

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/majority"
	"github.com/fhir-cdc/fhir-cdc/servererror"
)

// closeTimeout bounds the clean-up of a cursor that was left early.
const closeTimeout = time.Second

// query is one find on one collection, for up to maxIn values. Its first batch holds one
// document more than that, so mostly no second batch is needed.
type query struct {
	operation string // for errors: "read history"
	coll      *mongo.Collection
	filter    bson.D
	fields    []string
	without   string // for errors: the setting that makes this query unnecessary
}

// each hands over each document as raw BSON, valid during the call.
func (q *query) each(ctx context.Context, take func(bson.Raw)) error {
	projection := make(bson.D, 0, len(q.fields))
	for _, f := range q.fields {
		projection = append(projection, bson.E{Key: f, Value: 1})
	}
	cur, err := majority.Collection(q.coll).Find(ctx, q.filter, options.Find().
		SetProjection(projection).
		SetBatchSize(maxIn+1).
		SetComment("fhir-cdc/lookup"))
	if err != nil {
		return q.failed(ctx, err)
	}
	for cur.Next(ctx) {
		take(cur.Current)
	}
	err = cur.Err()
	// The server's cursor must be closed even if the caller's context has ended.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if closeErr := cur.Close(closing); err == nil {
		err = closeErr
	}
	if err != nil {
		return q.failed(ctx, err)
	}
	return nil
}

// failed wraps err with the operation and the namespace, and with advice if a right is missing.
func (q *query) failed(ctx context.Context, err error) error {
	namespace := q.coll.Database().Name() + "." + q.coll.Name()
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", q.operation, namespace, ctx.Err())
	}
	err = servererror.Coded(err)
	if servererror.LacksRight(err) {
		return fmt.Errorf("%s: the role needs find on %s, or %s: %w", q.operation, namespace, q.without, err)
	}
	return fmt.Errorf("%s %s: %w", q.operation, namespace, err)
}
