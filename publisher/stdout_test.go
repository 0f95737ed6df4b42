package publisher

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

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
