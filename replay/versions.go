package replay

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// maxIn bounds the values of one $in.
const maxIn = 1000

// Versions puts before each change the versions of its resource that the history has of a
// period, oldest first. The changes stay in their order. A version that is among the changes and
// in the history is there once, as the change.
func (s *Scanner) Versions(ctx context.Context, history Collection, period Period, changes []mapper.Change) ([]mapper.Change, error) {
	earlier := map[string][]mapper.Change{}
	resources, err := s.ofResources(ctx, history, changes, func(uuids []string) error {
		found, err := s.history(ctx, history, period, uuids)
		for _, c := range found {
			if v, ok := c.Version(); ok && err == nil {
				earlier[v.UUID] = append(earlier[v.UUID], c)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(earlier) == 0 {
		return changes, nil
	}
	all := make([]mapper.Change, 0, len(changes)+resources)
	for i := range changes {
		if v, ok := changes[i].Version(); ok {
			all = append(all, before(earlier[v.UUID], v)...)
		}
		all = append(all, changes[i])
	}
	return all, nil
}

// before sorts versions and leaves out v itself.
func before(versions []mapper.Change, v mapper.Version) []mapper.Change {
	versions = slices.DeleteFunc(versions, func(c mapper.Change) bool {
		w, _ := c.Version()
		return w.VersionID == v.VersionID && w.LastUpdated == v.LastUpdated
	})
	slices.SortStableFunc(versions, func(a, b mapper.Change) int {
		x, _ := a.Version()
		y, _ := b.Version()
		// Two versions of one millisecond are told apart by their numbers.
		m, _ := strconv.Atoi(x.VersionID)
		n, _ := strconv.Atoi(y.VersionID)
		return cmp.Or(cmp.Compare(x.LastUpdated, y.LastUpdated), cmp.Compare(m, n))
	})
	return versions
}

func (s *Scanner) history(ctx context.Context, src Collection, period Period, uuids []string) ([]mapper.Change, error) {
	all := bson.A{bson.D{{Key: "resource._uuid", Value: bson.D{{Key: "$in", Value: uuids}}}}}
	for _, f := range []bson.D{src.Collection.Filter, src.Filter, period.filter(src.Time)} {
		if len(f) > 0 {
			all = append(all, f)
		}
	}
	var changes []mapper.Change
	err := s.find(ctx, src, bson.D{{Key: "$and", Value: all}}, src.Projection, func(document bson.Raw) {
		var c mapper.Change
		s.mapper.Read(bytes.Clone(document), &c)
		changes = append(changes, c)
	})
	return changes, err
}

// Present finds the changes' resources that the collection holds outside its Filter, by UUID.
func (s *Scanner) Present(ctx context.Context, c Collection, changes []mapper.Change) (map[string]bool, error) {
	there := map[string]bool{}
	elsewhere := bson.E{Key: "$nor", Value: bson.A{c.Filter}}
	err := s.look(ctx, c, question{elsewhere, "_uuid", "_uuid"}, changes, func(uuid string, _ bson.RawValue) {
		there[uuid] = true
	})
	return there, err
}

// Deleted are the times of the last deletions of the changes' resources, in milliseconds, as
// far as the history has them.
func (s *Scanner) Deleted(ctx context.Context, history Collection, changes []mapper.Change) (map[string]int64, error) {
	last := map[string]int64{}
	deletes := bson.E{Key: "request.method", Value: "DELETE"}
	err := s.look(ctx, history, question{deletes, "resource._uuid", history.Time}, changes, func(uuid string, at bson.RawValue) {
		if ms, ok := at.DateTimeOK(); ok {
			last[uuid] = max(last[uuid], ms)
		}
	})
	return last, err
}

// question asks for a field of the documents that match a condition, by the UUID of their
// resource, which is in the field uuid.
type question struct {
	condition   bson.E
	uuid, field string
}

// look answers a question about the changes' resources.
func (s *Scanner) look(ctx context.Context, c Collection, q question, changes []mapper.Change, each func(uuid string, value bson.RawValue)) error {
	projection := bson.D{{Key: "_id", Value: 0}, {Key: "uuid", Value: "$" + q.uuid}, {Key: "value", Value: "$" + q.field}}
	_, err := s.ofResources(ctx, c, changes, func(uuids []string) error {
		filter := bson.D{{Key: q.uuid, Value: bson.D{{Key: "$in", Value: uuids}}}, q.condition}
		return s.find(ctx, c, filter, projection, func(document bson.Raw) {
			if uuid, ok := document.Lookup("uuid").StringValueOK(); ok {
				each(uuid, document.Lookup("value"))
			}
		})
	})
	return err
}

// ofResources calls find with the UUIDs of the changes' resources, as many at once as one $in
// takes, and returns their number.
func (s *Scanner) ofResources(ctx context.Context, c Collection, changes []mapper.Change, find func(uuids []string) error) (int, error) {
	uuids := make([]string, 0, len(changes))
	for i := range changes {
		if v, ok := changes[i].Version(); ok {
			uuids = append(uuids, v.UUID)
		}
	}
	for part := range slices.Chunk(uuids, maxIn) {
		if _, err := Retry(ctx, func() (struct{}, error) { return struct{}{}, find(part) }); err != nil {
			return 0, fmt.Errorf("read %s: %w", c.Name(), finalIfRefused(c.Name(), err))
		}
	}
	return len(uuids), nil
}
