package lookup

import "container/list"

// personEntry is one answer: a client person's id, its Person's uuid and the facts found.
type personEntry struct {
	id, uuid string
	person   Person
	complete bool // both Persons were found; only then the answer may be cached
}

// names are the ids of the Persons that the answer rests on.
func (e *personEntry) names() [3]string {
	return [3]string{e.id, e.uuid, e.person.BwellPersonID}
}

// personCache keeps the answers used last, with an index by the Persons that they rest on,
// so that a change of a Person costs no walk through all answers.
type personCache struct {
	size    int
	order   *list.List // of *personEntry, most recently used first
	byID    map[string]*list.Element
	resting map[string]map[string]struct{} // name → ids of the answers that rest on it
}

func newPersonCache(size int) *personCache {
	c := &personCache{size: size}
	c.clear()
	return c
}

func (c *personCache) clear() {
	c.order = list.New()
	c.byID = make(map[string]*list.Element)
	c.resting = make(map[string]map[string]struct{})
}

func (c *personCache) get(id string) (Person, bool) {
	el, ok := c.byID[id]
	if !ok {
		return Person{}, false
	}
	c.order.MoveToFront(el)
	return el.Value.(*personEntry).person, true
}

func (c *personCache) put(e personEntry) {
	if c.size <= 0 {
		return
	}
	c.remove(e.id)
	for len(c.byID) >= c.size {
		c.remove(c.order.Back().Value.(*personEntry).id)
	}
	c.byID[e.id] = c.order.PushFront(&e)
	for _, name := range e.names() {
		ids := c.resting[name]
		if ids == nil {
			ids = make(map[string]struct{}, 1)
			c.resting[name] = ids
		}
		ids[e.id] = struct{}{}
	}
}

// forget removes the answers that rest on name.
func (c *personCache) forget(name string) {
	for id := range c.resting[name] {
		c.remove(id)
	}
}

func (c *personCache) remove(id string) {
	el, ok := c.byID[id]
	if !ok {
		return
	}
	delete(c.byID, id)
	for _, name := range c.order.Remove(el).(*personEntry).names() {
		delete(c.resting[name], id)
		if len(c.resting[name]) == 0 {
			delete(c.resting, name)
		}
	}
}
