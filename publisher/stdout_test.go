package publisher

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

func TestStdoutLines(t *testing.T) {
	var out strings.Builder
	p := NewStdout(&out, nil, "main")
	_, err := p.Acquire(t.Context())
	mustBeNew(t, err)
	b := batch(t, 1000, "a&b")
	b.Events = append(b.Events,
		mapper.Event{Kind: mapper.KindExport, Topic: "exports", Key: []byte("k"), Value: []byte("{\n  \"a\": 1.50\n}")},
		mapper.Event{Kind: mapper.KindExport, Topic: "exports", Key: []byte("k"), Value: []byte("no \"JSON\"\n")})
	b.Failures = []mapper.Failure{failure(t)}
	if err := p.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"kind":"change","topic":"business.events","key":"a&b","headers":{"b3":"request-a&b","version":"R4"},"value":{"id":"a&b"}}`,
		`{"kind":"export","topic":"exports","key":"k","headers":{},"value":{"a":1.50}}`,
		`{"kind":"export","topic":"exports","key":"k","headers":{},"value":"no \"JSON\"\n"}`,
		`{"dead_letter":{"kind":"export","namespace":"fhir.ExportStatus_4_0_0","operation":"replace","documentKey":{"_id":"export-1"},` +
			`"reason":"status is not one the specification knows","clusterTime":{"t":1763886848,"i":3},` +
			`"resumeToken":{"_data":"826922C70000000003"},"stream":"main"}}`,
		``,
	}
	if diff := cmp.Diff(want, strings.Split(out.String(), "\n")); diff != "" {
		t.Error(diff)
	}
	closePublisher(t, p)
	if err := p.Commit(t.Context(), b); !errors.Is(err, errBroken) {
		t.Errorf("Commit after Close: %v", err)
	}
}

func TestStdoutKeepsItsPosition(t *testing.T) {
	var out strings.Builder
	store := &memory{}
	p := NewStdout(&out, store, "main")
	_, err := p.Acquire(t.Context())
	mustBeNew(t, err)
	if err := p.Commit(t.Context(), batch(t, 1000, "a")); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Acquire(t.Context()); err != nil || got.ClusterTime.T != 1000 {
		t.Errorf("Acquire: %v, %v", got.ClusterTime, err)
	}
	store.fail = resumetoken.ErrFenced
	if err := p.Commit(t.Context(), batch(t, 2000, "b")); !errors.Is(err, resumetoken.ErrFenced) {
		t.Errorf("Commit: %v; want ErrFenced", err)
	}
	if err := p.Commit(t.Context(), batch(t, 3000, "c")); !errors.Is(err, errBroken) {
		t.Errorf("Commit after an error: %v", err)
	}
	closePublisher(t, p)
	if !store.closed {
		t.Error("the store was left open")
	}
}

// TestStdoutOfSeveralStreams: streams that write to one output at the same time, batches
// larger than any buffer among them, leave whole lines there.
func TestStdoutOfSeveralStreams(t *testing.T) {
	const streams, batches, events = 4, 4, 900
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b := &Batch{}
	for n := range events {
		b.Events = append(b.Events, mapper.Event{Kind: mapper.KindExport, Topic: "t", Key: []byte("k"), Value: fmt.Appendf(nil, `{"a":"%s"}`, strings.Repeat("x", n))})
	}
	// A batch as one stream alone writes it.
	var alone strings.Builder
	p := NewStdout(&alone, nil, "main")
	_, err = p.Acquire(t.Context())
	mustBeNew(t, err)
	if err := p.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	expected := map[string]bool{}
	for line := range strings.Lines(alone.String()) {
		expected[strings.TrimSuffix(line, "\n")] = true
	}
	var writing errgroup.Group
	for range streams {
		writing.Go(func() error {
			p := NewStdout(w, nil, "main")
			if _, err := p.Acquire(t.Context()); !errors.Is(err, resumetoken.ErrNone) {
				return err
			}
			for range batches {
				if err := p.Commit(t.Context(), b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	go func() {
		if err := errors.Join(writing.Wait(), w.Close()); err != nil {
			t.Error(err)
		}
	}()
	whole := 0
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if !expected[lines.Text()] {
			t.Fatalf("no whole line: %s", lines.Text())
		}
		whole++
	}
	if err := lines.Err(); err != nil || whole != streams*batches*events {
		t.Errorf("%d lines, want %d; %v", whole, streams*batches*events, err)
	}
}

func TestStdoutReportsABrokenPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	store := &memory{}
	p := NewStdout(w, store, "main")
	_, err = p.Acquire(t.Context())
	mustBeNew(t, err)
	if err := p.Commit(t.Context(), batch(t, 1000, "a")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Commit: %v; want EPIPE", err)
	}
	if len(store.saved) > 0 {
		t.Error("the position of events that nobody got was saved")
	}
}
