package watcher

import (
	"errors"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/servererror"
)

// Denied is the text of an error. Where it is MongoDB's refusal of a command for want of
// a right, it names the database and the command, but not the command's contents, which
// the server quotes whole: a pipeline, ids, a session's signature.
func Denied(err error) string {
	text := err.Error()
	var command mongo.CommandError
	if !errors.As(err, &command) || command.Code != servererror.Unauthorized {
		return text
	}
	said, quoted, found := strings.Cut(command.Message, " to execute command { ")
	if !found {
		return text
	}
	name, _, _ := strings.Cut(quoted, ":")
	return strings.Replace(text, command.Message, said+" to execute "+name, 1)
}

// rightOn completes the advice of a missing right with where it is missing.
func rightOn(err error, where string) error {
	known := classify(err)
	if known == nil || !servererror.LacksRight(err) {
		return err
	}
	return &Error{Class: known.Class, Hint: "check the MongoDB user name and its password, and that its role allows " + where, Err: err}
}
