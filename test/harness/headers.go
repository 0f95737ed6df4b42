package harness

import "slices"

// Header is one header of a record.
type Header struct{ Key, Value string }

// Headers are a record's headers as they are: in its order, repeated ones too. Kafka
// takes both, so a comparison must see both.
type Headers []Header

// Get is the value of the first header of a key; empty if there is none.
func (h Headers) Get(key string) string {
	i := slices.IndexFunc(h, func(one Header) bool { return one.Key == key })
	if i < 0 {
		return ""
	}
	return h[i].Value
}

// Without are the headers but for those of some keys.
func (h Headers) Without(keys ...string) Headers {
	return slices.DeleteFunc(slices.Clone(h), func(one Header) bool { return slices.Contains(keys, one.Key) })
}
