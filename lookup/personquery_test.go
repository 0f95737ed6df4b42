package lookup

import (
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestReadOwnPerson(t *testing.T) {
	org := func(reference any) bson.E {
		return bson.E{Key: "managingOrganization", Value: bson.D{{Key: "reference", Value: reference}}}
	}
	uuid, id := bson.E{Key: "_uuid", Value: "u"}, bson.E{Key: "_sourceId", Value: "per-1"}
	tests := []struct {
		name string
		doc  bson.D
		want ownPerson
		ok   bool
	}{
		{name: "whole", doc: bson.D{uuid, id, org("Organization/org-1")}, want: ownPerson{uuid: "u", id: "per-1", organization: "org-1"}, ok: true},
		{name: "no organization", doc: bson.D{uuid, id}, want: ownPerson{uuid: "u", id: "per-1"}, ok: true},
		{name: "organization is text", doc: bson.D{uuid, {Key: "managingOrganization", Value: "org-1"}}, want: ownPerson{uuid: "u"}, ok: true},
		{name: "reference is a number", doc: bson.D{uuid, org(1)}, want: ownPerson{uuid: "u"}, ok: true},
		{name: "id is a number", doc: bson.D{uuid, {Key: "_sourceId", Value: 1}}, want: ownPerson{uuid: "u"}, ok: true},
		{name: "uuid is null", doc: bson.D{{Key: "_uuid", Value: nil}, id}},
		{name: "no uuid", doc: bson.D{id}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := readOwnPerson(raw(t, tt.doc))
			if got != tt.want || ok != tt.ok {
				t.Errorf("got %+v, %v", got, ok)
			}
		})
	}
}

func TestReadMaster(t *testing.T) {
	tag := func(system, code any) bson.D {
		return bson.D{{Key: "system", Value: system}, {Key: "code", Value: code}}
	}
	link := func(target any) bson.D {
		return bson.D{{Key: "target", Value: bson.D{{Key: "_uuid", Value: target}}}}
	}
	doc := func(uuid, security, links any) bson.D {
		return bson.D{{Key: "_uuid", Value: uuid}, {Key: "meta", Value: bson.D{{Key: "security", Value: security}}}, {Key: "link", Value: links}}
	}
	bwell := bson.A{tag("https://www.icanbwell.com/access", "acme"), tag(ownerSystem, bwellOwner)}
	tests := []struct {
		name  string
		doc   bson.D
		links []string
		ok    bool
	}{
		{name: "master", doc: doc("m", bwell, bson.A{link("Person/a"), link("Patient/b"), link("Person/c")}), links: []string{"a", "c"}, ok: true},
		{name: "links of other types", doc: doc("m", bwell, bson.A{1, link(2), bson.D{{Key: "target", Value: "Person/a"}}, link("Person/c")}), links: []string{"c"}, ok: true},
		{name: "link is no list", doc: doc("m", bwell, link("Person/a")), ok: true},
		{name: "owned by a client", doc: doc("m", bson.A{tag(ownerSystem, "acme")}, bson.A{link("Person/a")})},
		{name: "bwell may only read it", doc: doc("m", bson.A{tag("https://www.icanbwell.com/access", bwellOwner)}, bson.A{link("Person/a")})},
		{name: "system and code of two tags", doc: doc("m", bson.A{tag(ownerSystem, "acme"), tag("x", bwellOwner)}, bson.A{link("Person/a")})},
		{name: "tags of other types", doc: doc("m", bson.A{"bwell", tag(1, 2)}, bson.A{link("Person/a")})},
		{name: "security is text", doc: doc("m", "bwell", bson.A{link("Person/a")})},
		{name: "uuid is a number", doc: doc(7, bwell, bson.A{link("Person/a")})},
		{name: "empty", doc: bson.D{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			uuid, links, ok := readMaster(raw(t, tt.doc))
			if ok != tt.ok || !slices.Equal(links, tt.links) || ok && uuid != "m" {
				t.Errorf("got %q, %q, %v", uuid, links, ok)
			}
		})
	}
}

func TestOrganizationID(t *testing.T) {
	for reference, want := range map[string]string{
		"Organization/org-1":              "org-1",
		"Organization/org-1|acme":         "org-1",
		"Organization/":                   "",
		"Organization/a/_history/2":       "",
		"org-1":                           "",
		"#org":                            "",
		"Practitioner/p":                  "",
		"https://x.test/Organization/org": "",
		"":                                "",
	} {
		if got := organizationID(reference); got != want {
			t.Errorf("%q: got %q, want %q", reference, got, want)
		}
	}
}

func TestIsUUID(t *testing.T) {
	for s, want := range map[string]bool{
		uuid1:                                   true,
		"E3B35308-0AD4-591B-B14F-0C3E15F45713":  true,
		"per-1":                                 false,
		"":                                      false,
		"e3b35308-0ad4-591b-b14f-0c3e15f4571g":  false,
		"e3b353080ad4-591b-b14f-0c3e15f45713aa": false,
		"e3b35308-0ad4-591b-b14f-0c3e15f457130": false,
	} {
		if got := isUUID(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}
