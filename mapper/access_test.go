package mapper_test

import (
	"regexp"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// requestURLs are URLs, each with whether the FHIR server's router takes it to $everything
// of Patient or Person. The answers are those of Express 5, which the server runs on, to
// the server's routes.
func requestURLs() map[string]bool {
	return map[string]bool{
		"/4_0_0/Patient/1/$everything":                       true,
		"/4_0_0/Patient/1/$everything/":                      true,
		"/4_0_0/Patient/1/$everything//":                     false,
		"/4_0_0/patient/1/$everything":                       true,
		"/4_0_0/PERSON/1/$EVERYTHING":                        true,
		"/4_0_0/Patient/1/$Everything/?_type=x":              true,
		"/4_0_0/Patient/$everything/?id=1":                   true,
		"/4_0_0/Patient/$everything#x?y":                     true,
		"/4_0_0/Patient/1/$everything?":                      true,
		"/4_0_0/Patient/1/$everything?x=/y#z":                true,
		"/4_0_0/Patient/a%2Fb/$everything":                   true,
		"/4_0_0/Patient/$everything/$everything":             true,
		"http://h/4_0_0/Patient/1/$everything":               true,
		"/fhir/4_0_0/Person/1/$everything":                   true, // a proxy's prefix, which the server never sees
		"/4_0_0/Patient/1/%24everything":                     false,
		"/4_0_0/Patient/%24everything":                       false,
		"/4_0_0/%50atient/1/$everything":                     false,
		"/4_0_0/Patient//$everything":                        false,
		"/4_0_0/Practitioner/Patient/$everything":            false,
		"/4_0_0/Practitioner/1/$everything":                  false,
		"/4_0_0/Patient/1/$everything;x=1":                   false,
		"/4_0_0/Patient/1/$everything/$everything":           false,
		"/4_0_0/Patient/1$everything":                        false,
		"/4_0_0/Patient/1?next=/4_0_0/Patient/1/$everything": false,
		"/4_0_0/Patient/1#/$everything":                      false,
		"/Patient/$everything":                               false,
		"$everything":                                        false,
		"/":                                                  false,
		"":                                                   false,
	}
}

// tellings are an access log and an AuditEvent of a request for url.
func tellings(t testing.TB, url string) map[string]bson.Raw {
	t.Helper()
	told := map[string]bson.Raw{}
	for _, name := range []string{"access-log-patient", "audit-event-patient"} {
		var change bson.D
		if err := bson.Unmarshal(readChange(t, name), &change); err != nil {
			t.Fatal(err)
		}
		for i, e := range change {
			switch e.Key {
			case "accessLog":
				log := e.Value.(bson.D)
				for j := range log {
					if log[j].Key == "url" {
						log[j].Value = url
					}
				}
			case "auditEvent":
				event := e.Value.(bson.D)
				for j := range event {
					if event[j].Key == "details" {
						event[j].Value = bson.A{bson.A{
							bson.D{{Key: "type", Value: "requestUrl"}, {Key: "valueString", Value: url}},
							bson.D{{Key: "type", Value: "requestId"}, {Key: "valueString", Value: "r-1"}},
						}}
					}
				}
			default:
				continue
			}
			change[i].Value = e.Value
		}
		raw, err := bson.Marshal(change)
		if err != nil {
			t.Fatal(err)
		}
		told[name] = raw
	}
	return told
}

// serverFilter is the pattern by which MongoDB leaves out the requests for other URLs.
func serverFilter(t testing.TB) *regexp.Regexp {
	t.Helper()
	for _, feed := range mapper.New(defaults()).Feeds() {
		for _, e := range feed.Filter {
			if pattern, ok := e.Value.(bson.Regex); ok && strings.HasSuffix(e.Key, "request.url") {
				return regexp.MustCompile("(?" + pattern.Options + ")" + pattern.Pattern)
			}
		}
	}
	t.Fatal("no filter of access logs")
	return nil
}

func TestEverythingAsTheServersRouterSeesIt(t *testing.T) {
	filter := serverFilter(t)
	for url, want := range requestURLs() {
		for name, raw := range tellings(t, url) {
			out := mapOne(t, defaults(), raw, mapper.Facts{})
			if got := len(out.Events) == 1; got != want || len(out.Failures) > 0 {
				t.Errorf("%s of %q: event %t, want %t; failures %v", name, url, got, want, out.Failures)
			}
		}
		if want && !filter.MatchString(url) {
			t.Errorf("MongoDB leaves out %q", url)
		}
	}
}

// FuzzEverythingURL: an access log and an AuditEvent of one URL agree, and MongoDB leaves
// out none that an event is made of.
func FuzzEverythingURL(f *testing.F) {
	for url := range requestURLs() {
		f.Add(url)
	}
	filter := serverFilter(f)
	f.Fuzz(func(t *testing.T, url string) {
		var events []int
		for _, raw := range tellings(t, url) {
			events = append(events, len(check(t, raw, mapper.Facts{}).Events))
		}
		if events[0] != events[1] {
			t.Errorf("%q: %v events", url, events)
		}
		if events[0] > 0 && !filter.MatchString(url) {
			t.Errorf("MongoDB leaves out %q", url)
		}
	})
}
