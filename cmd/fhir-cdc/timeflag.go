package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// timeForms is how help texts name what a time flag takes.
const timeForms = "RFC 3339 such as 2026-11-23T10:00:00Z, a day, or how long ago such as 90m, 12h or 3d"

// pastTime is the value of a flag that names a time that has been.
type pastTime struct {
	time.Time
	// text is what was given: "3d" is another time each time, but the same wish.
	text string
	now  func() time.Time
}

// addTimeFlag adds a flag for a past time; it is zero if the flag is not given.
func addTimeFlag(cmd *cobra.Command, name, usage string) *pastTime {
	t := &pastTime{now: time.Now}
	cmd.Flags().Var(t, name, usage+" ("+timeForms+")")
	return t
}

// String implements pflag.Value.
func (t *pastTime) String() string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}

// Type implements pflag.Value; it names the value in the help text.
func (t *pastTime) Type() string { return "TIME" }

// Set implements pflag.Value. Times without a zone are UTC, as logs and cluster times are.
func (t *pastTime) Set(text string) error {
	now := t.now()
	parsed, err := parseTime(text, now)
	switch {
	case err != nil:
		return err
	case parsed.After(now):
		return fmt.Errorf("%s is in the future", parsed.UTC().Format(time.RFC3339))
	case parsed.Unix() <= 0:
		return fmt.Errorf("%s is before all data", parsed.UTC().Format(time.RFC3339))
	}
	t.Time, t.text = parsed.UTC(), text
	return nil
}

func parseTime(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if parsed, err := time.Parse(layout, text); err == nil {
			return parsed, nil
		}
	}
	if ago, ok := parseAgo(text); ok {
		return now.Add(-ago), nil
	}
	return time.Time{}, errors.New("it is no time: give " + timeForms)
}

// parseAgo reads a duration that may be in days too, which time.ParseDuration does
// not know.
func parseAgo(text string) (time.Duration, bool) {
	if days := regexp.MustCompile(`^([0-9]{1,5})d$`).FindStringSubmatch(text); days != nil {
		n, err := strconv.Atoi(days[1])
		return time.Duration(n) * 24 * time.Hour, err == nil
	}
	ago, err := time.ParseDuration(text)
	return ago, err == nil && ago > 0
}
