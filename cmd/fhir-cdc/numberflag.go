package main

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// wholeFlag is a flag's value that is a number of things, 0 or more.
type wholeFlag struct{ n *int }

// String implements pflag.Value.
func (f *wholeFlag) String() string {
	if f.n == nil {
		return "0"
	}
	return strconv.Itoa(*f.n)
}

// Type implements pflag.Value; it names the value in the help text.
func (f *wholeFlag) Type() string { return "int" }

// Set implements pflag.Value.
func (f *wholeFlag) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return errors.New("it is no whole number from 0 on")
	}
	*f.n = n
	return nil
}

// agoFlag is a flag's value that is a length of time, in days too.
type agoFlag struct{ time.Duration }

// Type implements pflag.Value; it names the value in the help text.
func (f *agoFlag) Type() string { return "duration" }

// Set implements pflag.Value.
func (f *agoFlag) Set(text string) error {
	d, ok := parseAgo(text)
	if zero, err := time.ParseDuration(text); err == nil && zero == 0 {
		d, ok = 0, true
	}
	if !ok {
		return errors.New("it is no length of time: give one such as 90m, 12h or 3d")
	}
	f.Duration = d
	return nil
}

// topicPrefix finds characters that no topic can have, in one line rather than in one
// for each topic.
func topicPrefix(prefix string) error {
	valid := func(r rune) bool {
		return (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z') || (r >= '0' && r <= '9') || strings.ContainsRune("._-", r)
	}
	if strings.ContainsFunc(prefix, func(r rune) bool { return !valid(r) }) {
		return &usageError{"--topic-prefix " + strconv.Quote(prefix) + ": topics have letters, digits, dots, hyphens and underscores only"}
	}
	return nil
}
