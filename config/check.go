package config

import (
	"fmt"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// wrongWith returns what is wrong with a single value, or "".
func (s spec) wrongWith(v reflect.Value) string {
	switch {
	case len(s.values) > 0:
		if !slices.Contains(s.values, v.String()) {
			return fmt.Sprintf("%s is not one of %s", shown(v.String()), strings.Join(s.values, ", "))
		}
	case s.kind == kindNumber:
		if v.Int() < s.lo || v.Int() > s.hi {
			return fmt.Sprintf("%d is not between %d and %d", v.Int(), s.lo, s.hi)
		}
	case s.kind == kindDuration:
		if v.Int() < s.lo || v.Int() > s.hi {
			return fmt.Sprintf("%s is not between %s and %s",
				durationText(time.Duration(v.Int())), durationText(time.Duration(s.lo)), durationText(time.Duration(s.hi)))
		}
	case s.check != nil:
		return s.check(v.String())
	}
	return ""
}

func checkName(name string) string {
	if len(name) > 100 || !plainName(name) {
		return shown(name) + " is not a name: 1 to 100 letters, digits, '.', '_' or '-'"
	}
	return ""
}

// optional is a check that lets "" pass.
func optional(check func(string) string) func(string) string {
	return func(value string) string {
		if value == "" {
			return ""
		}
		return check(value)
	}
}

// plainName tells whether s is not empty and all letters, digits, '.', '_' and '-'.
func plainName(s string) bool {
	const marks = "._-"
	for _, r := range s {
		if !letter(r) && !digit(r) && !strings.ContainsRune(marks, r) {
			return false
		}
	}
	return s != ""
}

func letter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

func digit(r rune) bool { return '0' <= r && r <= '9' }

func checkStart(start string) string {
	at, named, err := Start(start).Time()
	if err == nil && named {
		err = CheckClusterTime(at, time.Now())
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// CheckClusterTime returns an error for a time that no change can have: MongoDB counts
// seconds from 1970 in 32 bits, and a time outside of them would be taken for another.
func CheckClusterTime(at, now time.Time) error {
	switch {
	case at.After(now):
		return fmt.Errorf("%s is in the future", at.UTC().Format(time.RFC3339))
	case at.Unix() <= 0:
		return fmt.Errorf("%s is before all data", at.UTC().Format(time.RFC3339))
	}
	return nil
}

// checkTopic holds Kafka's rule for topic names.
func checkTopic(topic string) string {
	if topic == "." || topic == ".." || len(topic) > 249 || !plainName(topic) {
		return shown(topic) + " is not a topic name: 1 to 249 letters, digits, '.', '_' or '-'"
	}
	return ""
}

// checkDatabase holds MongoDB's rule for database names; empty means inherited.
func checkDatabase(name string) string {
	if len(name) > 63 || strings.ContainsAny(name, "/\\. \"$*<>:|?\x00") {
		return shown(name) + ` is not a database name: at most 63 bytes, none of /\. "$*<>:|?`
	}
	return ""
}

func checkCollection(name string) string {
	if name == "" || len(name) > 235 || strings.HasPrefix(name, "system.") || strings.ContainsAny(name, "$\x00") {
		return shown(name) + " is not a collection name"
	}
	return ""
}

func checkHostname(name string) string {
	if strings.ContainsAny(name, "/@?, ") || strings.Contains(name, ":") && net.ParseIP(name) == nil {
		return shown(name) + " is not a host name"
	}
	return ""
}

func checkBroker(address string) string {
	host, port, err := net.SplitHostPort(address)
	n, portErr := strconv.Atoi(port)
	if err != nil || portErr != nil || host == "" || n < 1 || n > 65535 || strings.ContainsAny(host, "/@ ") {
		return fmt.Sprintf("%q is not host:port", redactAddress(address))
	}
	return ""
}

// plainURL is a check for URLs without a login. It never shows the URL, which could hold a secret.
func plainURL(wrong string) func(string) string {
	return func(address string) string {
		u, err := url.Parse(address)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil {
			return wrong
		}
		return ""
	}
}

func checkExtension(extension string) string {
	name, value, found := strings.Cut(extension, "=")
	control := func(r rune) bool { return r < ' ' || r > '~' }
	if !found || name == "" || strings.ContainsFunc(name, func(r rune) bool { return !letter(r) }) || strings.ContainsFunc(value, control) {
		return redactPair(extension) + " is not name=value, the name in letters"
	}
	if name == "auth" {
		return "auth is the name of the token itself; an extension needs another"
	}
	return ""
}

func checkHTTPAddress(address string) string {
	if address == HTTPOff {
		return ""
	}
	_, port, err := net.SplitHostPort(address)
	n, portErr := strconv.Atoi(port)
	if err != nil || portErr != nil || n < 0 || n > 65535 {
		return shown(address) + " is neither host:port nor off"
	}
	return ""
}

func checkResource(name string) string {
	switch {
	case strings.EqualFold(name, "AuditEvent"):
		return "AuditEvent never makes change events (each would make the next); take it out"
	case len(name) < 2 || name[0] < 'A' || name[0] > 'Z' || strings.ContainsFunc(name, func(r rune) bool { return !letter(r) }):
		return shown(name) + " is not a FHIR resource type such as Consent"
	}
	return ""
}
