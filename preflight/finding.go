package preflight

import (
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// Level says how bad a finding is.
type Level string

// The levels. An Error keeps the daemon from working; with a Warning it works, but an
// operator should know.
const (
	OK      Level = "ok"
	Warning Level = "warning"
	Error   Level = "error"
)

// Finding is the outcome of one check.
type Finding struct {
	Level Level `json:"level"`
	// Subject names the checked thing, such as "topic business.events".
	Subject string `json:"subject"`
	// Found is the result, Advice the remedy; empty if all is well.
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

func ok(subject, format string, args ...any) Finding {
	return Finding{Level: OK, Subject: subject, Found: fmt.Sprintf(format, args...)}
}

func warning(subject, found, advice string) Finding {
	return Finding{Level: Warning, Subject: subject, Found: found, Advice: advice}
}

func failure(subject, found, advice string) Finding {
	return Finding{Level: Error, Subject: subject, Found: found, Advice: advice}
}

// short is an error in one line. A server's own message is cut at its end.
func short(err error) string {
	var command mongo.CommandError
	text := watcher.Denied(err)
	if errors.As(err, &command) && command.Name != "" {
		text = watcher.Denied(command)
	}
	text = strings.Join(strings.Fields(text), " ")
	const most = 300
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return text
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
