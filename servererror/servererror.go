// Package servererror shows MongoDB's errors by their code. The server's messages quote
// the command that failed, and with it ids by the thousand and a session's signature.
//
// It is also the only package that knows the driver's unstable packages (driver.go).
package servererror

import (
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Unauthorized is MongoDB's code for a missing right.
const Unauthorized = 13

// LacksRight tells whether MongoDB let the user in, but the user lacks a right.
func LacksRight(err error) bool {
	var server mongo.ServerError
	return errors.As(err, &server) && server.HasErrorCode(Unauthorized)
}

// Coded is err with the code and name of the server's error as its text, as in "MongoDB
// error 13 (Unauthorized)", without the server's message. errors.As still finds the code
// and the labels. Errors that no server sent (network, selection) keep their text.
func Coded(err error) error { return &coded{err} }

type coded struct{ err error }

func (e *coded) Error() string {
	var c mongo.CommandError
	switch {
	case errors.As(e.err, &c) && c.Code != 0:
		return fmt.Sprintf("MongoDB error %d (%s)", c.Code, c.Name)
	case LacksRight(e.err):
		return fmt.Sprintf("MongoDB error %d (Unauthorized)", Unauthorized)
	}
	return e.err.Error()
}

func (e *coded) Unwrap() error { return e.err }
