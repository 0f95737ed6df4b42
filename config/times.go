package config

import (
	"errors"
	"regexp"
	"strconv"
	"time"
)

// TimeForms names the forms of a past time in help texts and errors.
const TimeForms = "RFC 3339 such as 2026-11-23T10:00:00Z, a day, or how long ago such as 90m, 12h or 3d"

// ParseTime reads a past time in one of the TimeForms. Without a zone it is UTC, like logs
// and cluster times.
func ParseTime(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if parsed, err := time.Parse(layout, text); err == nil {
			return parsed, nil
		}
	}
	if ago, ok := ParseAgo(text); ok {
		return now.Add(-ago), nil
	}
	return time.Time{}, errors.New("it is no time: give " + TimeForms)
}

// ParseAgo reads a duration. It also takes days, which time.ParseDuration does not.
func ParseAgo(text string) (time.Duration, bool) {
	if days := regexp.MustCompile(`^([0-9]{1,5})d$`).FindStringSubmatch(text); days != nil {
		n, err := strconv.Atoi(days[1])
		return time.Duration(n) * 24 * time.Hour, err == nil
	}
	ago, err := time.ParseDuration(text)
	return ago, err == nil && ago > 0
}
