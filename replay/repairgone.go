package replay

import (
	"context"
	"hash/fnv"
	"slices"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// gone keeps the versions of resources that are no longer there and that this slice
// has to see to. Those of the others are published with the current version, by the
// stream that it is in the slice of.
//
// A history does not tell which slice a resource was in. One that was deleted before
// the repair began falls to a slice by its id, since none of them has met it. One that
// was deleted later may have been met by its own slice or not, which only that slice
// knows: each of them sees to it, unless the topics have its events by now. Two that
// do so in the same moment publish an event twice, with one id.
func (a *repairing) gone(ctx context.Context, history Source, changes []mapper.Change) ([]mapper.Change, error) {
	i := slices.IndexFunc(a.Current, func(s Source) bool { return s.Namespace == history.Namespace })
	present, err := a.Scanner.present(ctx, a.Current[i], changes)
	if err != nil {
		return nil, err
	}
	gone := slices.DeleteFunc(changes, func(c mapper.Change) bool {
		v, ok := c.RequestedVersion()
		return !ok || present[v.UUID]
	})
	late, err := a.Scanner.deleted(ctx, history, a.state.Began.Add(-clocks*a.Tolerance), gone)
	if err != nil {
		return nil, err
	}
	gone = slices.DeleteFunc(gone, func(c mapper.Change) bool {
		v, _ := c.RequestedVersion()
		return !late[v.UUID] && !a.falls(v.UUID)
	})
	if len(late) == 0 || len(gone) == 0 || a.unread {
		return gone, nil
	}
	if err := a.readBack(ctx); err != nil {
		return nil, err
	}
	return a.known.missing(a.Mapper, gone), nil
}

// falls tells whether a resource falls to this slice by its id.
func (a *repairing) falls(uuid string) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(uuid)) // never fails
	return int(h.Sum32()%uint32(a.Slice.Of)) == a.Slice.Index
}
