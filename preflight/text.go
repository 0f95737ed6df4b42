package preflight

import (
	"errors"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/watcher"
)

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
