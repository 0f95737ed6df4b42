package daemon

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// replaced says that another collection took a collection's place. The other names are the server's.
const replaced = "replaced"

// lifecycles are what can happen to a watched collection as a whole.
func lifecycles() []string {
	return []string{"drop", "rename", "dropDatabase", "invalidate", replaced}
}

// noteLifecycle tells an operator when a watched collection or database ends or is replaced: its
// documents come and go with that, without events.
func (s *Stream) noteLifecycle(ctx context.Context, c *mapper.Change) error {
	switch c.Name.Operation {
	case "drop":
		if !c.Routed() {
			return nil // Another collection's end is nobody's concern.
		}
	case "rename":
		if onto, ok := c.Replaced(); ok {
			if err := s.noteWhole(ctx, replaced, onto); err != nil {
				return err
			}
		}
		if !c.Routed() {
			return nil
		}
	case "dropDatabase":
		if !s.parts.Mapper.Reads(c.Name.Database) {
			return nil
		}
	case "invalidate":
	default:
		return nil
	}
	return s.noteWhole(ctx, c.Name.Operation, mapper.Namespace{Database: c.Name.Database, Collection: c.Name.Collection})
}

// noteWhole puts on record what happened to a collection or database as a whole.
func (s *Stream) noteWhole(ctx context.Context, what string, n mapper.Namespace) error {
	if s.opts.NoteWhole != nil {
		if err := s.opts.NoteWhole(ctx, what, n); err != nil {
			return fmt.Errorf("put on record that a collection is gone: %w", err)
		}
	}
	s.progress.whole(what)
	message := "a watched collection or database was dropped or renamed"
	if what == replaced {
		message = "a watched collection was replaced by another one ($out, or a rename onto it); what it holds now has no events, but for those that fhir-cdc backfill makes"
	}
	s.log.Warn(message, zap.String("operation", what), zap.String("database", n.Database), zap.String("collection", n.Collection))
	return nil
}
