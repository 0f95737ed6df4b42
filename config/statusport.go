package config

import (
	"errors"
	"strings"
)

// StatusPort reads the part of the configuration that tells where the status port is:
// http, without its token. It is for those who ask a running daemon. That one may have
// been given its other settings by flags, which nobody else sees, so faults outside http
// are not told; an error of type *Error holds the others.
func StatusPort(opts LoadOptions) (HTTP, error) {
	cfg, err := Draft(opts)
	var all *Error
	if cfg == nil || err != nil && !errors.As(err, &all) {
		return HTTP{}, err
	}
	if all == nil {
		return cfg.HTTP, nil
	}
	var faults []Fault
	for _, f := range all.Faults {
		if (f.Key == "http" || strings.HasPrefix(f.Key, "http.")) && f.Key != "http.token" || f.Source == "--set" {
			faults = append(faults, f)
		}
	}
	return cfg.HTTP, asError(faults)
}
