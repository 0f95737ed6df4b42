package main

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestTimeFlag(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-11-23T10:00:00Z":      "2026-11-23T10:00:00Z",
		"2026-11-23T12:00:00+02:00": "2026-11-23T10:00:00Z",
		"2026-11-23 10:00":          "2026-11-23T10:00:00Z",
		"2026-11-22":                "2026-11-22T00:00:00Z",
		"90m":                       "2026-11-23T10:30:00Z",
		"3d":                        "2026-11-20T12:00:00Z",
		"":                          "it is no time",
		"yesterday":                 "it is no time",
		"-2h":                       "it is no time",
		"0s":                        "it is no time",
		"2026-13-01":                "it is no time",
		"2026-11-23T13:00:00Z":      "in the future",
		"1969-01-01":                "before all data",
		"90000d":                    "before all data",
	} {
		flag := &pastTime{now: func() time.Time { return now }}
		got := ""
		if err := flag.Set(text); err != nil {
			got = err.Error()
			if !flag.IsZero() {
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

func TestOutputFlag(t *testing.T) {
	cmd := &cobra.Command{}
	form := addOutputFlag(cmd)
	if err := cmd.ParseFlags([]string{"-o", "xml"}); err == nil || !strings.Contains(err.Error(), "neither table nor json") {
		t.Errorf("xml: %v", err)
	}
	if *form != outputTable {
		t.Errorf("the form is %q", *form)
	}
	if err := cmd.ParseFlags([]string{"-o", "json"}); err != nil || *form != outputJSON {
		t.Errorf("json: %v, %q", err, *form)
	}
}
