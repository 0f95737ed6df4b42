package publisher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// stdoutBuffer holds a usual batch, so that writing one takes few system calls. What is
// written at once are whole lines: streams share the output, and may each write at any time.
const stdoutBuffer = 64 << 10

// Stdout writes each event as one line of JSON, for trying out without Kafka:
//
//	{"kind":…,"topic":…,"key":…,"headers":{…},"value":…}
//	{"dead_letter":{…}}
//
// The value is the event's own JSON; text that is no UTF-8 has its bad bytes
// replaced. A batch is written as a whole before its position is saved.
type Stdout struct {
	out       io.Writer
	lines     bytes.Buffer      // lines that are not written yet
	positions resumetoken.Store // nil: the position is not kept
	stream    string
	live      bool
}

// NewStdout writes to w, whole lines with each write. If several publishers share w, it must keep
// their writes apart, as a file does. positions may be nil, for a stream that starts anew each
// time; otherwise it belongs to the publisher from here on.
func NewStdout(w io.Writer, positions resumetoken.Store, stream string) *Stdout {
	return &Stdout{out: w, positions: positions, stream: stream}
}

// Acquire returns the store's position, or resumetoken.ErrNone.
func (s *Stdout) Acquire(ctx context.Context) (resumetoken.Position, error) {
	if s.positions == nil {
		s.live = true
		return resumetoken.Position{}, resumetoken.ErrNone
	}
	p, err := s.positions.Acquire(ctx)
	s.live = err == nil || errors.Is(err, resumetoken.ErrNone)
	return p, err
}

// Commit writes a batch and saves its position. After an error of the writer, such as a
// pipe that nobody reads any more, nothing is written until Acquire.
func (s *Stdout) Commit(ctx context.Context, batch *Batch) error {
	if !s.live {
		return errBroken
	}
	if err := s.write(batch); err != nil {
		s.live = false
		return fmt.Errorf("write events: %w", err)
	}
	if s.positions == nil {
		return nil
	}
	if err := s.positions.Save(ctx, batch.Position); err != nil {
		s.live = false
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

func (s *Stdout) write(batch *Batch) error {
	s.lines.Reset()
	for i := range batch.Events {
		if err := appendEventLine(&s.lines, &batch.Events[i]); err != nil {
			return err
		}
		if s.lines.Len() >= stdoutBuffer {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	for i := range batch.Failures {
		_, value, err := deadLetter(&batch.Failures[i], s.stream)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(&s.lines, "{\"dead_letter\":%s}\n", value)
	}
	return s.flush()
}

func (s *Stdout) flush() error {
	_, err := s.lines.WriteTo(s.out)
	return err
}

// appendEventLine writes by hand because the headers keep their order and the value
// is JSON already.
func appendEventLine(line *bytes.Buffer, e *mapper.Event) error {
	var failed error
	text := func(before string, value []byte) {
		quoted, err := compactJSON(string(value))
		failed = errors.Join(failed, err)
		line.WriteString(before)
		line.Write(quoted)
	}
	text(`{"kind":`, []byte(e.Kind))
	text(`,"topic":`, []byte(e.Topic))
	text(`,"key":`, e.Key)
	line.WriteString(`,"headers":{`)
	for i, h := range e.Headers {
		if i > 0 {
			line.WriteByte(',')
		}
		text("", []byte(h.Key))
		text(":", h.Value)
	}
	line.WriteString(`},"value":`)
	if json.Valid(e.Value) && utf8.Valid(e.Value) {
		failed = errors.Join(failed, json.Compact(line, e.Value))
	} else {
		text("", e.Value)
	}
	line.WriteString("}\n")
	return failed
}

// MaxEventBytes is no limit here.
func (s *Stdout) MaxEventBytes(string) int { return math.MaxInt }

// Close closes the store; the writer stays open.
func (s *Stdout) Close(ctx context.Context) error {
	s.live = false
	if s.positions == nil {
		return nil
	}
	if err := s.positions.Close(ctx); err != nil {
		return fmt.Errorf("close position store: %w", err)
	}
	return nil
}

// Printer writes events as Stdout does, for commands that publish beside the streams.
type Printer struct{ stdout *Stdout }

// NewPrinter writes to w.
func NewPrinter(w io.Writer, stream string) *Printer { return &Printer{NewStdout(w, nil, stream)} }

// Publish writes a batch; records that would go with it are for Kafka only.
func (p *Printer) Publish(_ context.Context, batch *Batch, _ ...kgo.Record) error {
	return p.stdout.write(batch)
}

// Close does nothing: the writer stays open.
func (p *Printer) Close() {}
