package replay

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// maxIn bounds the values of one $in.
const maxIn = 1000

// Versions gives, of each resource among changes, the versions of a span that its
// history tells of, oldest first, and then the change itself. Changes stay in their
// order. A change that history tells of too is there once, as it was given.
func (s *Scanner) Versions(ctx context.Context, history Source, span Span, changes []mapper.Change) ([]mapper.Change, error) {
	uuids := make([]string, 0, len(changes))
	for i := range changes {
		if v, ok := changes[i].RequestedVersion(); ok {
			uuids = append(uuids, v.UUID)
		}
	}
	earlier := map[string][]mapper.Change{}
	for part := range slices.Chunk(uuids, maxIn) {
		found, err := retry(ctx, func() ([]mapper.Change, error) { return s.history(ctx, history, span, part) })
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", history.Name(), refused(history.Name(), err))
		}
		for _, c := range found {
			if v, ok := c.RequestedVersion(); ok {
				earlier[v.UUID] = append(earlier[v.UUID], c)
			}
		}
	}
	if len(earlier) == 0 {
		return changes, nil
	}
	all := make([]mapper.Change, 0, len(changes)+len(uuids))
	for i := range changes {
		if v, ok := changes[i].RequestedVersion(); ok {
			all = append(all, before(earlier[v.UUID], v)...)
		}
		all = append(all, changes[i])
	}
	return all, nil
}

// before sorts versions and leaves out v itself.
func before(versions []mapper.Change, v mapper.Version) []mapper.Change {
	versions = slices.DeleteFunc(versions, func(c mapper.Change) bool {
		w, _ := c.RequestedVersion()
		return w.VersionID == v.VersionID && w.LastUpdated == v.LastUpdated
	})
	slices.SortStableFunc(versions, func(a, b mapper.Change) int {
		x, _ := a.RequestedVersion()
		y, _ := b.RequestedVersion()
		// Two versions of one millisecond are told apart by their numbers.
		m, _ := strconv.Atoi(x.VersionID)
		n, _ := strconv.Atoi(y.VersionID)
		return cmp.Or(cmp.Compare(x.LastUpdated, y.LastUpdated), cmp.Compare(m, n))
	})
	return versions
}

func (s *Scanner) history(ctx context.Context, src Source, span Span, uuids []string) ([]mapper.Change, error) {
	all := bson.A{bson.D{{Key: "resource._uuid", Value: bson.D{{Key: "$in", Value: uuids}}}}}
	for _, f := range []bson.D{src.Collection.Filter, src.Filter, span.filter(src.Time)} {
		if len(f) > 0 {
			all = append(all, f)
		}
	}
	documents := src.Documents.Clone(options.Collection().SetReadPreference(readpref.Primary()))
	cur, err := documents.Find(ctx, bson.D{{Key: "$and", Value: all}}, options.Find().
		SetProjection(src.Projection).SetBatchSize(int32(s.opts.Batch)).SetComment(comment))
	if err != nil {
		return nil, err
	}
	defer closeCursor(ctx, cur)
	var changes []mapper.Change
	for cur.Next(ctx) {
		var c mapper.Change
		s.mapper.Read(bytes.Clone(cur.Current), &c)
		changes = append(changes, c)
	}
	return changes, cur.Err()
}

// present are those of the changes' resources that are in a collection.
func (s *Scanner) present(ctx context.Context, src Source, changes []mapper.Change) (map[string]bool, error) {
	return s.holds(ctx, src, "_uuid", nil, changes)
}

// deleted are those of the changes' resources that history says were deleted since a
// time.
func (s *Scanner) deleted(ctx context.Context, history Source, since time.Time, changes []mapper.Change) (map[string]bool, error) {
	return s.holds(ctx, history, "resource._uuid", bson.D{
		{Key: "request.method", Value: "DELETE"}, {Key: history.Time, Value: bson.D{{Key: "$gte", Value: since}}},
	}, changes)
}

// holds finds which of the changes' resources a collection has documents of. Their id
// is in a field of it.
func (s *Scanner) holds(ctx context.Context, src Source, field string, filter bson.D, changes []mapper.Change) (map[string]bool, error) {
	path := strings.Split(field, ".")
	var uuids []string
	for i := range changes {
		if v, ok := changes[i].RequestedVersion(); ok {
			uuids = append(uuids, v.UUID)
		}
	}
	there := map[string]bool{}
	for part := range slices.Chunk(uuids, maxIn) {
		_, err := retry(ctx, func() (struct{}, error) {
			cur, err := src.Documents.Clone(options.Collection().SetReadPreference(readpref.Primary())).Find(ctx,
				append(bson.D{{Key: field, Value: bson.D{{Key: "$in", Value: part}}}}, filter...),
				options.Find().SetProjection(bson.D{{Key: "_id", Value: 0}, {Key: field, Value: 1}}).SetComment(comment))
			if err != nil {
				return struct{}{}, err
			}
			defer closeCursor(ctx, cur)
			for cur.Next(ctx) {
				if uuid, ok := cur.Current.Lookup(path...).StringValueOK(); ok {
					there[uuid] = true
				}
			}
			return struct{}{}, cur.Err()
		})
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", src.Name(), refused(src.Name(), err))
		}
	}
	return there, nil
}
