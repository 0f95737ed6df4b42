package main

import (
	"testing"

	"github.com/fhir-cdc/fhir-cdc/positions"
)

// The stored position of an idle stream is old without being behind.
func TestLagOfAnIdleStream(t *testing.T) {
	seconds := 40.0
	for want, view := range map[string]positions.View{
		"40 s": {LagSeconds: &seconds}, "≤ 40 s": {LagSeconds: &seconds, LagAtMost: true}, unknown: {},
	} {
		if got := lagCell(view).Text; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
