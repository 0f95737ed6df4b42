package replay

import (
	"slices"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// Filter chooses events. An empty list chooses all; of several lists all must agree.
type Filter struct {
	Kinds []mapper.Kind
	// Resources are the resource types of events that are of one; with it, no others are
	// chosen.
	Resources []string
	// IDs are events' ids or the keys of their records, which for change events are
	// the resources' ids.
	IDs []string

	kinds, resources, ids map[string]bool
}

// NewFilter prepares a filter.
func NewFilter(kinds []mapper.Kind, resources, ids []string) *Filter {
	f := &Filter{Kinds: kinds, Resources: resources, IDs: ids, kinds: map[string]bool{}, resources: set(resources), ids: set(ids)}
	for _, k := range kinds {
		f.kinds[string(k)] = true
	}
	return f
}

func set(list []string) map[string]bool {
	s := make(map[string]bool, len(list))
	for _, text := range list {
		s[text] = true
	}
	return s
}

// Chooses tells whether an event is chosen.
func (f *Filter) Chooses(e *mapper.Event) bool {
	return f.choosesChange(e.Kind, e.Change) && (len(f.ids) == 0 || f.ids[e.ID] || f.ids[string(e.Key)])
}

// ChoosesFailure tells whether a failure is chosen. It has no id.
func (f *Filter) ChoosesFailure(x *mapper.Failure) bool {
	return f.choosesChange(x.Kind, x.Change) && len(f.ids) == 0
}

func (f *Filter) choosesChange(kind mapper.Kind, c mapper.ChangeName) bool {
	if len(f.kinds) > 0 && !f.kinds[string(kind)] {
		return false
	}
	if len(f.resources) == 0 {
		return true
	}
	one := slices.ContainsFunc(mapper.Kinds(), func(k mapper.Definition) bool { return k.Name == kind && len(k.Resources) > 0 })
	return one && f.resources[mapper.ResourceOf(c.Collection)]
}
