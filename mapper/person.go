package mapper

import "go.mongodb.org/mongo-driver/v2/bson"

// personPart has the links of a Person. Two kinds share it: a projected change has no value of a
// document twice.
const personPart = "person"

// personFields are the uuids of the links, for person link events the references too.
func (c Config) personFields() func(document string) bson.D {
	return func(document string) bson.D {
		if c.Topics[KindPersonLink] == "" {
			return bson.D{{Key: "links", Value: document + ".link.target._uuid"}}
		}
		// Without a text a link becomes null, which takes no more than it does.
		link := bson.D{{Key: "$cond", Value: bson.A{
			bson.D{{Key: "$or", Value: bson.A{isString("$$this.target.reference"), isString("$$this.target._uuid")}}},
			bson.D{
				{Key: "reference", Value: when(isString("$$this.target.reference"), "$$this.target.reference")},
				{Key: "_uuid", Value: when(isString("$$this.target._uuid"), "$$this.target._uuid")},
			},
			nil,
		}}}
		return bson.D{{Key: "links", Value: when(
			bson.D{{Key: "$isArray", Value: document + ".link"}},
			bson.D{{Key: "$map", Value: bson.D{{Key: "input", Value: document + ".link"}, {Key: "in", Value: link}}}},
		)}}
	}
}

func isString(value string) bson.D {
	return bson.D{{Key: "$eq", Value: bson.A{bson.D{{Key: "$type", Value: value}}, "string"}}}
}

// personLinks are a Person's links as the projection gives them.
func (c *Change) personLinks() value { return member(c.part(personPart), "links") }

// PersonChange names the persons whose facts a change of a Person may change.
type PersonChange struct {
	UUID, ID string
	// Links are the person's link.target._uuid, such as Person/<uuid>.
	Links []string
	// Deleted says that an unknown Person was deleted.
	Deleted bool
}

// Person gives the change of a Person, false if it is none.
func (c *Change) Person() (PersonChange, bool) {
	if c.route == nil || !c.route.reads(personPart) {
		return PersonChange{}, false
	}
	uuid, _ := c.doc.uuid.text()
	id, _ := c.doc.id.text()
	p := PersonChange{UUID: string(uuid), ID: string(id), Deleted: c.Name.Operation == "delete" || !c.doc.present}
	for _, v := range c.personLinks().items() {
		t, ok := v.text()
		if !ok {
			t = readLink(v).uuid
		}
		if len(t) > 0 {
			p.Links = append(p.Links, string(t))
		}
	}
	return p, true
}
