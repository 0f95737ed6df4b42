package servererror_test

import (
	"errors"
	"fmt"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/servererror"
)

func TestCoded(t *testing.T) {
	const contents = "not authorized to execute command { find: ids }"
	for name, c := range map[string]struct {
		err    error
		text   string
		denied bool
	}{
		"a command without the right": {
			fmt.Errorf("find: %w", mongo.CommandError{Code: 13, Name: "Unauthorized", Message: contents}), "MongoDB error 13 (Unauthorized)", true,
		},
		"a write without the right": {
			mongo.WriteException{WriteErrors: mongo.WriteErrors{{Code: 13, Message: contents}}}, "MongoDB error 13 (Unauthorized)", true,
		},
		"another error of the server": {mongo.CommandError{Code: 50, Name: "MaxTimeMSExpired", Message: contents}, "MongoDB error 50 (MaxTimeMSExpired)", false},
		"no error of a server":        {errors.New("connection refused"), "connection refused", false},
	} {
		t.Run(name, func(t *testing.T) {
			coded := servererror.Coded(c.err)
			if got := coded.Error(); got != c.text {
				t.Errorf("%q, want %q", got, c.text)
			}
			if got := servererror.LacksRight(coded); got != c.denied {
				t.Errorf("lacks a right: %v, want %v", got, c.denied)
			}
		})
	}
}
