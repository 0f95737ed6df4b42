package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resourcetype"
)

// knownResources makes sure that the types of --resources can exist: with a misspelt one
// a command would find nothing and end well. A type that FHIR does not have is right if
// the configuration names it too.
func knownResources(cfg *config.Config, names []string) error {
	for _, name := range names {
		switch {
		case strings.EqualFold(name, auditEvent):
			return &usageError{"--resources " + auditEvent + ": it never makes change events"}
		case resourcetype.Known(name) || slices.Contains(cfg.Events.Change.Resources, name):
			continue
		}
		text := fmt.Sprintf("--resources %q: FHIR has no such resource type", name)
		if meant := resourcetype.Meant(name); meant != "" {
			return &usageError{text + "; did you mean " + meant + "?"}
		}
		return &usageError{text + "; if the server does, add it to events.change.resources too"}
	}
	return nil
}

// auditEvent is the resource type that makes no change events: each would make the next.
const auditEvent = "AuditEvent"

// watchedResources makes sure that --resources names types of which the configuration
// makes events, of the kinds that --kinds names: what is read of the oplog again has no
// others.
func watchedResources(cfg *config.Config, kinds, names []string) error {
	if err := knownResources(cfg, names); err != nil {
		return err
	}
	e := cfg.Events
	chosen := func(kind mapper.Kind) bool { return len(kinds) == 0 || slices.Contains(kinds, string(kind)) }
	for _, name := range names {
		watched := (e.Change.Enabled && slices.Contains(e.Change.Resources, name)) || (e.Export.Enabled && name == exportStatus)
		if !watched {
			return &usageError{fmt.Sprintf("--resources %s: the configuration makes no events of it (events.change.resources: %s)", name, strings.Join(e.Change.Resources, ", "))}
		}
		if !chosen(mapper.KindChange) && (!chosen(mapper.KindExport) || name != exportStatus) {
			return &usageError{fmt.Sprintf("--resources %s with --kinds %s: there are no such events; usage events have no resource type", name, strings.Join(kinds, ","))}
		}
	}
	return nil
}
