package harness

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

const (
	// EnvControlToken is the daemon's variable that has its controls ask for a token.
	EnvControlToken = "FHIR_CDC_HTTP_TOKEN"
	// ControlToken is the token that Control sends.
	ControlToken = "a token for the controls"
)

// Control sends an order about a stream, pause or resume, as an operator does. An order
// that is refused is an error.
func (d *Daemon) Control(ctx context.Context, order, stream string) error {
	address, err := d.StatusAddress(ctx)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/control/"+order, strings.NewReader(`{"stream":"`+stream+`"}`))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+ControlToken)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", order, stream, response.Status)
	}
	return nil
}
