package flagvalue

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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
		flag := &Time{now: func() time.Time { return now }}
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

// Lists come with commas or, out of other commands, one a line.
func TestListFlag(t *testing.T) {
	for text, want := range map[string][]string{
		"a":             {"a"},
		"a,b":           {"a", "b"},
		"a\nb\nc\n":     {"a", "b", "c"},
		"a\r\nb\r\n":    {"a", "b"},
		" a , b\n c":    {"a", "b", "c"},
		"a,":            {"a", ""},
		"a\n\nb":        {"a", "", "b"},
		"":              {""},
		`{"a", "b"}`:    {`{"a"`, `"b"}`},
		"con-1,\ncon-2": {"con-1", "", "con-2"},
	} {
		var got []string
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		AddList(flags, &got, "ids", "")
		if err := flags.Parse([]string{"--ids", "first", "--ids", text}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(append([]string{"first"}, want...), got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

// TestTimeFlagUsage: a wrong time is a wrong command line, and says what a time is.
func TestTimeFlagUsage(t *testing.T) {
	cmd := &cobra.Command{}
	since := AddTime(cmd, "since", "begin there")
	if err := cmd.ParseFlags([]string{"--since", "soon"}); err == nil || !strings.Contains(err.Error(), "--since") || !strings.Contains(err.Error(), "3d") {
		t.Errorf("got %v", err)
	}
	if err := cmd.ParseFlags([]string{"--since", "2h"}); err != nil || time.Since(since.Time) < 2*time.Hour {
		t.Errorf("got %v, %v", since, err)
	}
}

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
		flag := &ClusterTime{}
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
