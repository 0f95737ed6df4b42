package main

import (
	"strings"
	"testing"
)

func TestClusterTimeFlag(t *testing.T) {
	for text, want := range map[string]string{
		"1790000000,73":  "1790000000,73",
		"1700000000,0":   "1700000000,0",
		"1795524720":     "it is no cluster time",
		"1795524720, 73": "it is no cluster time",
		"9999999999,1":   "it is no cluster time",
		"4294967295,1":   "in the future",
		"0,1":            "before all data",
		"":               "it is no cluster time",
	} {
		flag := &clusterTimeFlag{}
		got := ""
		if err := flag.Set(text); err != nil {
			got = err.Error()
			if flag.String() != "" {
				t.Errorf("%q: refused, but set to %v", text, flag)
			}
		} else {
			got = flag.String()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
