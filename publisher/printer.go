package publisher

import (
	"context"
	"io"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Printer writes events as Stdout does, for what is published beside the streams.
type Printer struct{ stdout *Stdout }

// NewPrinter writes to w.
func NewPrinter(w io.Writer, stream string) *Printer { return &Printer{NewStdout(w, nil, stream)} }

// Publish writes a batch; records that would go with it are for Kafka only.
func (p *Printer) Publish(_ context.Context, batch *Batch, _ ...kgo.Record) error {
	return p.stdout.write(batch)
}

// Close does nothing: the writer stays open.
func (p *Printer) Close() {}
