// Package flagvalue has the values of commands' flags: lists, past times, cluster times, resume
// tokens and numbers. Each says in its own words what is wrong with a text.
package flagvalue

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/tokens"
)

// List is the value of a flag with several values: separated by commas or line ends, as
// other commands print them, or in several flags. An empty value stays in the list, for
// refuseEmpty to find; pflag's own lists drop it, and all lines but the first.
type List struct{ values *[]string }

// AddList adds a list flag; values stays nil if it is not given.
func AddList(flags *pflag.FlagSet, values *[]string, name, usage string) {
	flags.Var(&List{values}, name, usage)
}

// String implements pflag.Value.
func (l *List) String() string {
	if l.values == nil { // pflag calls String on a zero value, to recognise zero defaults
		return ""
	}
	return strings.Join(*l.values, ",")
}

// Type implements pflag.Value; it names the value in the help text.
func (l *List) Type() string { return "LIST" }

// Set implements pflag.Value.
func (l *List) Set(text string) error {
	for value := range strings.SplitSeq(strings.ReplaceAll(strings.TrimRight(text, "\r\n"), "\n", ","), ",") {
		*l.values = append(*l.values, strings.TrimSpace(value))
	}
	return nil
}

// Append implements pflag.SliceValue.
func (l *List) Append(value string) error {
	*l.values = append(*l.values, value)
	return nil
}

// Replace implements pflag.SliceValue.
func (l *List) Replace(values []string) error {
	*l.values = values
	return nil
}

// GetSlice implements pflag.SliceValue.
func (l *List) GetSlice() []string { return *l.values }

// Time is the value of a flag that names a time in the past.
type Time struct {
	time.Time
	// Text is the given text: "3d" is another time in each run, but the same choice.
	Text string
	now  func() time.Time
}

// AddTime adds a flag for a past time; it is zero if the flag is not given.
func AddTime(cmd *cobra.Command, name, usage string) *Time {
	t := &Time{now: time.Now}
	cmd.Flags().Var(t, name, usage+" ("+config.TimeForms+")")
	return t
}

// String implements pflag.Value.
func (t *Time) String() string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}

// Type implements pflag.Value; it names the value in the help text.
func (t *Time) Type() string { return "TIME" }

// Set implements pflag.Value. Times without a zone are UTC, like logs and cluster times.
func (t *Time) Set(text string) error {
	now := t.now()
	parsed, err := config.ParseTime(text, now)
	if err == nil {
		err = config.CheckClusterTime(parsed, now)
	}
	if err != nil {
		return err
	}
	t.Time, t.Text = parsed.UTC(), text
	return nil
}

// ClusterTime is a flag's value: a cluster time in the form of logs and /status.
type ClusterTime struct {
	// At is zero if the flag is not given.
	At bson.Timestamp
}

// String implements pflag.Value.
func (t *ClusterTime) String() string {
	if t.At.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d,%d", t.At.T, t.At.I)
}

// Type implements pflag.Value; it names the value in the help text.
func (t *ClusterTime) Type() string { return "T,I" }

// Set implements pflag.Value.
func (t *ClusterTime) Set(text string) error {
	parts := regexp.MustCompile(`^([0-9]+),([0-9]+)$`).FindStringSubmatch(text)
	if parts == nil {
		return fmt.Errorf("it is no cluster time: give seconds and ordinal, such as 1795524720,73")
	}
	seconds, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil {
		return fmt.Errorf("it is no cluster time: %w", err)
	}
	ordinal, err := strconv.ParseUint(parts[2], 10, 32)
	if err != nil {
		return fmt.Errorf("it is no cluster time: %w", err)
	}
	at := bson.Timestamp{T: uint32(seconds), I: uint32(ordinal)}
	if err := config.CheckClusterTime(time.Unix(int64(at.T), 0), time.Now()); err != nil {
		return err
	}
	t.At = at
	return nil
}

// AddClusterTime adds a flag for a cluster time.
func AddClusterTime(cmd *cobra.Command, name, usage string) *ClusterTime {
	t := &ClusterTime{}
	cmd.Flags().Var(t, name, usage+" (seconds and ordinal as the daemon's messages have them, such as 1795524720,73)")
	return t
}

// Whole is a flag's value: a whole number, 0 or more.
type Whole struct {
	// N is where the number is kept.
	N *int
}

// String implements pflag.Value.
func (f *Whole) String() string {
	if f.N == nil {
		return "0"
	}
	return strconv.Itoa(*f.N)
}

// Type implements pflag.Value; it names the value in the help text.
func (f *Whole) Type() string { return "N" }

// Set implements pflag.Value.
func (f *Whole) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return errors.New("it is no whole number from 0 on")
	}
	*f.N = n
	return nil
}

// Ago is a flag's value: a duration, also in days.
type Ago struct{ time.Duration }

// Type implements pflag.Value; it names the value in the help text.
func (f *Ago) Type() string { return "DURATION" }

// Set implements pflag.Value.
func (f *Ago) Set(text string) error {
	d, ok := config.ParseAgo(text)
	if zero, err := time.ParseDuration(text); err == nil && zero == 0 {
		d, ok = 0, true
	}
	if !ok {
		return errors.New("it is no length of time: give one such as 90m, 12h or 3d")
	}
	f.Duration = d
	return nil
}

// Token is a flag's value: a resume token in the form of MongoDB, /status and the
// position commands, or its text alone.
type Token struct {
	// Text and Raw are its forms, At the time of its change.
	Text string
	Raw  bson.Raw
	At   bson.Timestamp
}

// String implements pflag.Value.
func (t *Token) String() string { return t.Text }

// Type implements pflag.Value; it names the value in the help text.
func (t *Token) Type() string { return "TOKEN" }

// Set implements pflag.Value.
func (t *Token) Set(text string) error {
	data := text
	var form struct {
		Data string `json:"_data"`
	}
	if json.Unmarshal([]byte(text), &form) == nil {
		data = form.Data
	}
	data = strings.ToUpper(data) // like the server's: tokens are compared as texts
	raw, err := tokens.FromText(data)
	if err != nil {
		return err
	}
	_, err = hex.DecodeString(data)
	at, ok := tokens.ClusterTime(raw)
	switch {
	case (err != nil && !errors.Is(err, hex.ErrLength)) || !strings.HasPrefix(data, "82"):
		return errors.New("it is no resume token: those begin with 82 and have hexadecimal digits only")
	case !ok || !tokens.Whole(raw):
		return errors.New("it is no whole resume token: it is cut short, or changed; fhir-cdc position list --output json and history show whole ones")
	}
	t.Text, t.Raw, t.At = data, raw, at
	return nil
}

// AddToken adds a flag for a resume token.
func AddToken(cmd *cobra.Command, name, usage string) *Token {
	t := &Token{}
	cmd.Flags().Var(t, name, usage+`: its text, or JSON such as {"_data": "8269…"}`)
	return t
}

// Text is a text that somebody else parses.
type Text struct {
	// Form names the value in the help text.
	Form string
	text string
}

// String implements pflag.Value.
func (t *Text) String() string { return t.text }

// Set implements pflag.Value.
func (t *Text) Set(text string) error { t.text = text; return nil }

// Type implements pflag.Value.
func (t *Text) Type() string { return t.Form }
