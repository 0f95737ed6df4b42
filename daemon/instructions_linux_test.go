package daemon

import (
	"context"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/test/instructions"
)

// Instructions of a change's way from the source to the commit do not grow unseen: the bound is a
// twentieth above what it takes. Who makes them fewer sets the bound lower.
func TestInstructionsPerChange(t *testing.T) {
	const each = 1000
	var changes []bson.Raw
	for i := range each {
		changes = append(changes, consent(t, 10+i))
	}
	instructions.AtMost(t, 15_700, func(n int) {
		source, k := &script{fingerprint: "f"}, &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}}
		for range n / each {
			source.chunks = append(source.chunks, chunk(changes...))
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := stream(source, nil, k, func(o *Options, _ *Facts) { o.MaxRecords = each })
		s.parts.Publish = func() (Publisher, error) { return &ending{recorder{k}, n, cancel}, nil }
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// ending ends the stream when the last change is committed.
type ending struct {
	recorder
	left int
	end  context.CancelFunc
}

func (p *ending) Commit(ctx context.Context, b *publisher.Batch) error {
	err := p.recorder.Commit(ctx, b)
	if p.left -= len(b.Events); p.left == 0 {
		p.end()
	}
	return err
}
