package instance

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// How often, and for how long, the streams are begun anew when MongoDB refuses.
func TestWithFreshSecrets(t *testing.T) {
	refused := func(code int32) error {
		return &watcher.Error{Class: watcher.Unauthorized, Err: mongo.CommandError{Code: code}}
	}
	const wrongLogin, missingRight = 18, 13
	certificate := "mongodb://db/?tls=true&tlsCertificateKeyFile=/c.pem"
	for _, tc := range []struct {
		name, uri string
		// ran and errs are of run after run; the last error comes again and again.
		ran      []bool
		errs     []error
		want     error // nil for none
		runs     int   // 0: not asserted
		atMost   time.Duration
		stopping bool
	}{
		{name: "a login that never worked", uri: certificate, ran: []bool{false}, errs: []error{refused(wrongLogin)}, want: refused(wrongLogin), runs: 1},
		{name: "nothing to read anew", uri: "mongodb://db", ran: []bool{true}, errs: []error{refused(wrongLogin)}, want: refused(wrongLogin), runs: 1},
		{name: "another error", uri: certificate, ran: []bool{true}, errs: []error{errors.New("other")}, want: errors.New("other"), runs: 1},
		{name: "a rotation", uri: certificate, ran: []bool{true, false, false, true}, errs: []error{refused(wrongLogin), refused(wrongLogin), refused(wrongLogin), nil}, runs: 4, atMost: 10 * time.Second},
		{name: "a set initiated anew", uri: "mongodb://db", ran: []bool{true, true}, errs: []error{errors.Join(installation.ErrOutdated, errors.New("not all was published")), nil}, runs: 2},
		{name: "a user that was deleted", uri: certificate, ran: []bool{true, false, true}, errs: []error{refused(missingRight), refused(wrongLogin), nil}, runs: 3, atMost: 10 * time.Second},
		{name: "a right that is missing", uri: certificate, ran: []bool{true, true}, errs: []error{refused(missingRight), refused(missingRight)}, want: refused(missingRight), runs: 2, atMost: 10 * time.Second},
		{name: "no new secret", uri: certificate, ran: []bool{true, false}, errs: []error{refused(wrongLogin), refused(wrongLogin)}, want: refused(wrongLogin), atMost: rotationGrace + 10*time.Second},
		{name: "told to stop", uri: certificate, ran: []bool{true, false}, errs: []error{refused(wrongLogin), refused(wrongLogin)}, stopping: true, atMost: 10 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg, err := config.Load(config.LoadOptions{Environ: []string{"ENABLE_EVENTS_KAFKA=1", "KAFKA_URLS=b:1", "MONGO_URL=" + tc.uri}})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tc.stopping {
					limited, cancel := context.WithTimeout(ctx, 5*time.Second)
					defer cancel()
					ctx = limited
				}
				began, runs := time.Now(), 0
				last := func(n int) int { return min(runs, n) - 1 }
				err := withFreshClients(ctx, cfg, func() bool { return tc.ran[last(len(tc.ran))] }, zap.NewNop(), func(*config.Config) error {
					runs++
					return tc.errs[last(len(tc.errs))]
				})
				if (err == nil) != (tc.want == nil) || err != nil && err.Error() != tc.want.Error() {
					t.Errorf("error %v, want %v", err, tc.want)
				}
				if tc.runs != 0 && runs != tc.runs {
					t.Errorf("%d runs, want %d", runs, tc.runs)
				}
				if took := time.Since(began); took > tc.atMost {
					t.Errorf("took %v, want at most %v", took, tc.atMost)
				}
			})
		})
	}
}
