package mapper_test

import (
	"encoding/binary"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

func onlyID(t *testing.T, c consent) string {
	t.Helper()
	cfg := defaults()
	cfg.Deletes = true
	out := mapOne(t, cfg, c.raw(t), mapper.Facts{})
	if len(out.Events) != 1 || len(out.Failures) > 0 {
		t.Fatalf("%d events, failures %v", len(out.Events), out.Failures)
	}
	return out.Events[0].ID
}

func TestIDIsOfTheVersionOnEveryPath(t *testing.T) {
	version := consent{versionID: "2"}
	want := onlyID(t, version)
	for name, same := range map[string]consent{
		"replace": {operation: "replace", versionID: "2"}, "update": {operation: "update", versionID: "2"},
		"other token": {versionID: "2", token: "826B03917D0000000A"}, "other id": {versionID: "2", id: "con-2"},
	} {
		if got := onlyID(t, same); got != want {
			t.Errorf("%s: id %s, want %s", name, got, want)
		}
	}
	// What the id is made of, in the words of the design: kind, namespace, uuid,
	// version and the time's milliseconds as eight bytes.
	name := binary.BigEndian.AppendUint64([]byte("\x00change\x00fhir.Consent_4_0_0\x009778576a-8f48-5fe7-98a4-7c6664cdbf46\x002\x00"), 1795395965947)
	if oracle := uuid.NewSHA1(uuid.NewSHA1(uuid.NameSpaceDNS, []byte("fhir-cdc.events")), name).String(); oracle != want {
		t.Errorf("id %s, want %s", want, oracle)
	}
}

func TestIDOfAnotherVersionDiffers(t *testing.T) {
	seen := map[string]string{}
	for name, c := range map[string]consent{
		"version 1": {}, "version 2": {versionID: "2"},
		// Deleted and created again: version 1 once more, at another time.
		"version 1 again":       {lastUpdated: 1795396026293},
		"another resource":      {uuid: "2f8b4604-fd73-56f0-b157-88a1edcefaeb"},
		"another FHIR version":  {collection: "Consent_3_0_1"},
		"another type":          {collection: "ExportStatus_3_0_1"},
		"version in the uuid":   {uuid: "9778576a-8f48-5fe7-98a4-7c6664cdbf461", versionID: "1"},
		"uuid in the version":   {uuid: "9778576a-8f48-5fe7-98a4-7c6664cdbf4", versionID: "61"},
		"a millisecond later":   {lastUpdated: 1795395965948},
		"long before the epoch": {lastUpdated: -1795395965947},
	} {
		id := onlyID(t, c)
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s have the same id", name, other)
		}
		seen[id] = name
	}
}

func TestIDOfAChangeWithoutVersionIsOfItsToken(t *testing.T) {
	for _, name := range []string{
		"consent-without-uuid", "consent-without-meta", "consent-without-last-updated", "consent-update-without-version",
		"consent-update-version-only", "consent-update-time-only",
	} {
		raw := readChange(t, name)
		id := func(token string) string {
			out := mapOne(t, defaults(), changed(t, raw, map[string]any{"_id": map[string]string{"_data": token}}), mapper.Facts{})
			return out.Events[0].ID
		}
		if first, again, other := id("826B01"), id("826B01"), id("826B02"); first != again || first == other {
			t.Errorf("%s: ids are not of the token", name)
		}
	}
	if a, b := onlyID(t, consent{token: "826B01"}), onlyID(t, consent{token: "826B02"}); a != b {
		t.Error("the token is in the id of a change that has a version")
	}
}

func TestIDsOfOneChangeDiffer(t *testing.T) {
	events := mapOne(t, defaults(), readChange(t, "export-accepted"), mapper.Facts{}).Events
	if events[0].ID == events[1].ID {
		t.Error("change event and export event have the same id")
	}
	cfg := defaults()
	cfg.Deletes = true
	deleted := mapOne(t, cfg, readChange(t, "consent-delete-with-pre-image"), mapper.Facts{}).Events[0].ID
	if replaced := eventOf(t, "consent-replace", mapper.KindChange, mapper.Facts{}).ID; deleted == replaced {
		t.Error("a delete has the id of the version it deletes")
	}
}

func TestIDOfARequestIsTheSameFromBothSources(t *testing.T) {
	log := eventOf(t, "access-log-patient", mapper.KindAccessedEverything, mapper.Facts{})
	for _, name := range []string{"audit-event-patient", "audit-event-delegated", "audit-event-person-second-entity", "audit-event-in-main-database"} {
		cfg := defaults()
		if name == "audit-event-in-main-database" {
			auditEventsInMain(&cfg)
		}
		audit := mapOne(t, cfg, readChange(t, name), persons()).Events[0]
		if audit.ID != log.ID || string(audit.Key) != string(log.Key) {
			t.Errorf("%s: id %s, key %s; of the access log %s, %s", name, audit.ID, audit.Key, log.ID, log.Key)
		}
	}
}

// TestSameChangeAndFactsGiveTheSameBytes maps each change on its own and in random
// company, with another Mapper: place in the batch must not show.
func TestSameChangeAndFactsGiveTheSameBytes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.change.json")
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		cfg := defaults()
		cfg.Deletes = random.IntN(2) == 0
		cfg.Profiles = inProfile([]mapper.Profile{mapper.ProfileSeed, mapper.ProfileStrict}[random.IntN(2)])
		var together mapper.Output
		var apart []mapper.Event
		m := mapper.New(cfg)
		for _, i := range random.Perm(len(files)) {
			raw := readChange(t, strings.TrimSuffix(filepath.Base(files[i]), ".change.json"))
			facts := randomFacts(random)
			apart = append(apart, mapOne(t, cfg, raw, facts).Events...)
			var c mapper.Change
			m.Read(raw, &c)
			appendTo(t, m, &c, facts, &together)
		}
		sameEvents(t, apart, together.Events)
	}
}

func randomFacts(random *rand.Rand) (f mapper.Facts) {
	some := func() string { return strings.Repeat("f", random.IntN(3)*random.IntN(700)) }
	return mapper.Facts{RequestID: some(), BwellPersonID: some(), ManagingOrganization: some()}
}

func TestFactsDoNotChangeIDs(t *testing.T) {
	for _, name := range []string{"consent-create", "export-accepted", "access-log-patient", "consent-without-uuid"} {
		without := mapOne(t, defaults(), readChange(t, name), mapper.Facts{}).Events
		with := mapOne(t, defaults(), readChange(t, name), mapper.Facts{RequestID: "r", BwellPersonID: "b", ManagingOrganization: "m"}).Events
		for i := range without {
			if without[i].ID != with[i].ID {
				t.Errorf("%s: id %s without facts, %s with", name, without[i].ID, with[i].ID)
			}
		}
	}
}
