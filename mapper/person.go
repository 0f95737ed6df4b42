package mapper

type personFields struct{ links value }

func readPerson(v value) (p personFields) {
	raw, ok := v.document()
	if !ok {
		return p
	}
	for e := walk(raw); ; {
		key, v, ok := e.next()
		if !ok {
			return p
		}
		if string(key) == "links" {
			p.links = v
		}
	}
}

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
	if c.route == nil || !c.route.reads("person") {
		return PersonChange{}, false
	}
	uuid, _ := c.doc.uuid.text()
	id, _ := c.doc.id.text()
	p := PersonChange{UUID: string(uuid), ID: string(id), Deleted: c.Name.Operation == "delete" || !c.doc.present}
	links, _ := readPerson(c.part("person")).links.array()
	for e := walk(links); ; {
		_, v, ok := e.next()
		if !ok {
			return p, true
		}
		if t, ok := v.text(); ok {
			p.Links = append(p.Links, string(t))
		}
	}
}
