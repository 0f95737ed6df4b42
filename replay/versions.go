package replay

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

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

// present are those of the changes' resources that are in a collection, but not in the
// part of it that its source is restricted to.
func (s *Scanner) present(ctx context.Context, src Source, changes []mapper.Change) (map[string]bool, error) {
	there := map[string]bool{}
	err := s.look(ctx, src, bson.D{{Key: "$nor", Value: bson.A{src.Filter}}}, "_uuid", "_uuid", changes, func(uuid string, _ bson.RawValue) {
		there[uuid] = true
	})
	return there, err
}

// deleted tells when those of the changes' resources were deleted last, in milliseconds,
// that history says were.
func (s *Scanner) deleted(ctx context.Context, history Source, changes []mapper.Change) (map[string]int64, error) {
	last := map[string]int64{}
	err := s.look(ctx, history, bson.D{{Key: "request.method", Value: "DELETE"}}, "resource._uuid", history.Time, changes, func(uuid string, at bson.RawValue) {
		if ms, ok := at.DateTimeOK(); ok {
			last[uuid] = max(last[uuid], ms)
		}
	})
	return last, err
}

// look hands over, of the documents that a collection has of the changes' resources, the
// resource's UUID, which is in the field id, and another field.
func (s *Scanner) look(ctx context.Context, src Source, filter bson.D, id, field string, changes []mapper.Change, each func(uuid string, value bson.RawValue)) error {
	var uuids []string
	for i := range changes {
		if v, ok := changes[i].RequestedVersion(); ok {
			uuids = append(uuids, v.UUID)
		}
	}
	for part := range slices.Chunk(uuids, maxIn) {
		_, err := retry(ctx, func() (struct{}, error) {
			cur, err := src.Documents.Clone(options.Collection().SetReadPreference(readpref.Primary())).Find(ctx,
				append(bson.D{{Key: id, Value: bson.D{{Key: "$in", Value: part}}}}, filter...),
				options.Find().SetProjection(bson.D{{Key: "_id", Value: 0}, {Key: "id", Value: "$" + id}, {Key: "value", Value: "$" + field}}).SetComment(comment))
			if err != nil {
				return struct{}{}, err
			}
			defer closeCursor(ctx, cur)
			for cur.Next(ctx) {
				if uuid, ok := cur.Current.Lookup("id").StringValueOK(); ok {
					each(uuid, cur.Current.Lookup("value"))
				}
			}
			return struct{}{}, cur.Err()
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", src.Name(), refused(src.Name(), err))
		}
	}
	return nil
}
