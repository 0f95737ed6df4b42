package security_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

type response struct {
	status int
	body   string
}

func get(ctx context.Context, address string) (response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return response{}, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return response{}, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return response{answer.StatusCode, string(body)}, err
}

// Secrets and what is somebody's own in documents: the first must be nowhere at all,
// the second nowhere either, since no event holds any of it.
type hidden map[string]string

func (h hidden) in(t *testing.T, place, text string) {
	t.Helper()
	if text == "" {
		t.Errorf("%s is empty: nothing was proven about it", place)
	}
	for what, secret := range h {
		for _, form := range []string{secret, url.QueryEscape(secret), fmt.Sprintf("%x", secret)} {
			if at := strings.Index(text, form); at >= 0 {
				t.Errorf("%s is in %s: …%s…", what, place, text[max(0, at-200):at])
			}
		}
	}
}

// A daemon at level debug is given every kind of secret and documents with a marker
// in every place, some of them malformed, and meets failures. Then everything that it
// has shown or written anywhere is searched.
func TestNothingLeaks(t *testing.T) {
	marker := "Zz" + strings.ToLower(rand.Text())
	i := install(t, fhirserver.Options{Marker: marker})
	user, password := "user-"+strings.ToLower(rand.Text()[:8]), "p@ss/"+rand.Text()
	i.mongoUser(t, "admin", user, password, readAny())
	i.mongo(i.mongoURI(i.mongoAt(url.UserPassword(user, password), "&authSource=admin")))
	i.kafkaAt(listenerBearer, clientCredentials(clientSecret)...).with(
		"FHIR_CDC_LOG_LEVEL", "debug", "FHIR_CDC_FACTS_WAIT", "100ms", "FHIR_CDC_RETRY_MAX_BACKOFF", "1s",
		"KAFKA_SASL_USERNAME", "unused", "KAFKA_SASL_PASSWORD", "unused-"+rand.Text())
	h := hidden{"the marker": marker, "MongoDB's password": password, "the client secret": clientSecret, "Kafka's password": i.env["KAFKA_SASL_PASSWORD"], "a token": strings.SplitN(i.identity.token(clientID, time.Hour), ".", 2)[0]}

	d := i.start()
	id := i.writeAll(marker)
	r := i.reader()
	_, err := r.UntilIDs(i.ctx, id)
	i.check(err)
	i.cut()
	id = i.write()
	_, err = r.UntilIDs(i.ctx, id)
	i.check(err)
	for _, path := range []string{"/", "/status", "/metrics", "/livez", "/readyz", "/startupz"} {
		answer, err := get(i.ctx, i.statusURL(d)+path)
		i.check(err)
		h.in(t, path, answer.body)
	}
	i.stop(d)
	h.in(t, "the log", d.Logs())
	topics := i.site.Topics.All()
	for topic, text := range i.everything(topics...) {
		if topic == i.site.Topics.Audit && text == "" {
			continue // Nothing was done to the stream.
		}
		h.in(t, "topic "+topic, text)
	}
	for _, command := range [][]string{{"config", "print"}, {"config", "print", "--origins"}, {"config", "print", "--output", "json"}} {
		d := harness.Start(t, harness.Options{Env: i.env, Command: command})
		_, err := d.Wait(i.ctx)
		i.check(err)
		h.in(t, strings.Join(command, " "), d.Stdout()+d.Logs())
	}
	// Refused: errors that could quote what was refused.
	i.with("FHIR_CDC_KAFKA_SASL_OAUTH_CLIENT_SECRET", "wrong-"+clientSecret)
	refused := harness.Start(t, harness.Options{Env: i.env})
	_, err = refused.Wait(i.ctx)
	i.check(err)
	h.in(t, "the log of a refused daemon", refused.Logs())
}

// writeAll writes documents of every sort and returns the id of the last event.
func (i *installation) writeAll(marker string) string {
	i.t.Helper()
	i.write()
	person, err := i.fhir.CreatePerson(i.ctx, "per-1")
	i.check(err)
	job, err := i.fhir.CreateExportStatus(i.ctx, "job-1")
	i.check(err)
	_, err = i.fhir.SetStatus(i.ctx, job, marker) // a status that is not known
	i.check(err)
	i.check(i.fhir.Insert(i.ctx, "Consent_4_0_0", append(bson.D{{Key: "id", Value: bson.D{{Key: "no", Value: marker}}}, {Key: "_uuid", Value: "u"}}, i.fhir.Consent()...)))
	i.check(i.fhir.Insert(i.ctx, "Consent_4_0_0", append(bson.D{{Key: "id", Value: "c"}, {Key: "meta", Value: marker}}, i.fhir.Consent()...)))
	request, err := i.fhir.Everything(i.ctx, person.UUID, 1, false)
	i.check(err)
	return harness.AccessedEverythingID(request.SystemID)
}

// everything is all that the topics hold, what was not committed included.
func (i *installation) everything(topics ...string) map[string]string {
	i.t.Helper()
	ends, err := harness.Admin(i.t, i.kafka.Brokers).ListEndOffsets(i.ctx, topics...)
	i.check(err)
	client, err := kgo.NewClient(append(harness.Consuming(i.t, topics...), kgo.SeedBrokers(i.kafka.Brokers...), kgo.KeepControlRecords(),
		kgo.FetchMaxWait(100*time.Millisecond))...)
	i.check(err)
	defer client.Close()
	texts, next := map[string]string{}, map[string]int64{}
	done := func() bool {
		for topic, partitions := range ends {
			for partition, end := range partitions {
				if next[fmt.Sprint(topic, "/", partition)] < end.Offset {
					return false
				}
			}
		}
		return true
	}
	for !done() {
		fetches := client.PollFetches(i.ctx)
		i.check(context.Cause(i.ctx))
		fetches.EachRecord(func(r *kgo.Record) {
			next[fmt.Sprint(r.Topic, "/", r.Partition)] = r.Offset + 1
			if !r.Attrs.IsControl() {
				texts[r.Topic] += fmt.Sprintf("%s %s %s\n", r.Key, r.Value, r.Headers)
			}
		})
	}
	for _, topic := range topics {
		texts[topic] += ""
	}
	return texts
}
