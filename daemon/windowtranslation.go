package daemon

import (
	"context"
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/tokens"
)

// pageEvents bounds the events of a window that are made at once: all of a large window would take
// much memory.
const pageEvents = 1000

// WindowTranslation is the Translation of a mapper of windows: it maps the changes of a span of the
// oplog that begins with a window to the events that the stream made of them. It is for one
// goroutine.
type WindowTranslation struct {
	mapper        *mapper.Mapper
	windows       *windows
	maxEventBytes func(topic string) int
	part          uint32
	partOf        mapper.Window
}

// NewWindowTranslation returns a WindowTranslation, with parameters as those of NewTranslation.
func NewWindowTranslation(m *mapper.Mapper, facts Facts, maxEventBytes func(topic string) int) *WindowTranslation {
	return &WindowTranslation{mapper: m, windows: newWindows(m, facts.Links, maxOpen), maxEventBytes: maxEventBytes}
}

// Append hands over the events of the windows that changes and the token after them end.
func (t *WindowTranslation) Append(ctx context.Context, raw []bson.Raw, token bson.Raw, emit func(mapper.Output) error) error {
	var c mapper.Change
	for i := range raw {
		t.mapper.Read(raw[i], &c)
		if err := t.AppendChange(ctx, &c, emit); err != nil {
			return err
		}
	}
	if at, ok := tokens.ClusterTime(token); ok {
		return t.until(ctx, at, emit)
	}
	return nil
}

// AppendChange is Append for a change that has been read.
func (t *WindowTranslation) AppendChange(ctx context.Context, c *mapper.Change, emit func(mapper.Output) error) error {
	at := c.Name.ClusterTime
	if err := t.until(ctx, at, emit); err != nil {
		return err
	}
	t.windows.add(c, t.windowOf(at.T))
	if !t.windows.full() || large(c.Name.Token) { // as live
		return nil
	}
	t.part++
	return t.close(ctx, at, emit)
}

// windowOf is the window of a time, and the part of it that is gathered.
func (t *WindowTranslation) windowOf(second uint32) mapper.Window {
	w := t.mapper.WindowAt(second)
	if w != t.partOf {
		t.partOf, t.part = w, 0
	}
	w.Part = t.part
	return w
}

func (t *WindowTranslation) until(ctx context.Context, at bson.Timestamp, emit func(mapper.Output) error) error {
	if !t.windows.ends(at.T) {
		return nil
	}
	return t.close(ctx, at, emit)
}

// Unfinished is the window that nothing has ended yet, false if there is none.
func (t *WindowTranslation) Unfinished() (mapper.Window, bool) {
	return t.windows.window, t.windows.open
}

// End hands over the events of the window that nothing has ended yet, as after a change at its end.
// after is a time of the cluster after the changes.
func (t *WindowTranslation) End(ctx context.Context, after bson.Timestamp, emit func(mapper.Output) error) error {
	if !t.windows.open {
		return nil
	}
	return t.close(ctx, after, emit)
}

func (t *WindowTranslation) close(ctx context.Context, after bson.Timestamp, emit func(mapper.Output) error) error {
	all, err := t.windows.all(ctx, after)
	if err != nil {
		return err
	}
	out := mapper.Output{Failures: t.windows.failures}
	hand := func() error {
		tooLarge(t.maxEventBytes, 0, &out)
		err := emit(out)
		out = mapper.Output{}
		return err
	}
	for _, c := range all {
		if t.windows.append(c, &out); len(out.Events) >= pageEvents {
			if err := hand(); err != nil {
				return err
			}
		}
	}
	t.windows.clear()
	if len(out.Events)+len(out.Failures) == 0 {
		return nil
	}
	return hand()
}

// Touched maps changes that a repair of lost history finds to one event for each patient or
// person: at names them, in milliseconds. Persons have the links of today, as written up to after
// at least: a link of the gap may bear a time after it, by another clock, and one too many does no
// harm.
func (t *WindowTranslation) Touched(ctx context.Context, changes []mapper.Change, at int64, after bson.Timestamp, out *mapper.Output) error {
	for i := range changes {
		t.windows.add(&changes[i], mapper.Window{End: math.MaxUint32})
	}
	all, err := t.windows.all(ctx, after)
	if err != nil {
		return err
	}
	for _, c := range all {
		t.mapper.AppendRepairedDataChange(at, t.windows.change(c), out)
	}
	out.Failures = append(out.Failures, t.windows.failures...)
	t.windows.clear()
	tooLarge(t.maxEventBytes, 0, out)
	return nil
}
