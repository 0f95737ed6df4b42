package mapper

import (
	"bytes"
	"encoding/hex"
	"net/url"
	"strings"
)

// Profile is a form of a kind's events. Their ids are the same in each.
type Profile string

// The profiles. ProfileSeed is the FHIR server's own form, with its deviations from the
// standards. ProfileStrict keeps to FHIR R4 and CloudEvents, and has a trace context.
const (
	ProfileSeed   Profile = "seed"
	ProfileStrict Profile = "strict"
)

// headerTraceparent is the header with the trace context of W3C. Each strict event has it and
// no other, so it is also the mark of strict records.
const headerTraceparent = "traceparent"

// traced are the headers of an event, of a strict one with its trace context: the trace is that
// of all events of one cause, the request where it is known, and the span is the event's
// own. It is made of nothing else, so that it is the same on every path. Its flags say that
// nobody has recorded the trace.
func (o *Output) traced(to destination, cause, id []byte, headers ...Header) []Header {
	if !to.strict {
		return o.header(headers...)
	}
	start := len(o.arena)
	var trace [16]byte
	trace, o.scratch = uuidOf(o.scratch, []byte("trace"), cause)
	o.arena = append(o.arena, "00-"...)
	o.arena = hex.AppendEncode(o.arena, trace[:])
	o.arena = append(o.arena, '-')
	o.arena = append(o.arena, id[:8]...) // A UUID's first eight bytes, without its dashes.
	o.arena = append(o.arena, id[9:13]...)
	o.arena = append(o.arena, id[14:18]...)
	o.arena = append(o.arena, "-00"...)
	return o.header(append(headers, Header{headerTraceparent, o.since(start)})...)
}

// fhirID tells whether FHIR takes a text as the id of a resource.
func fhirID(id []byte) bool {
	for _, b := range id {
		if (b < '0' || b > '9') && (b < 'A' || b > 'Z') && (b < 'a' || b > 'z') && b != '-' && b != '.' {
			return false
		}
	}
	return len(id) > 0 && len(id) <= 64
}

// fhirText is a text as FHIR's strings are: a control character becomes U+FFFD.
func fhirText(s []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' {
			return '\ufffd'
		}
		return r
	}, s)
}

// fhirCode is a text as FHIR's codes are: single spaces between words.
func fhirCode(s []byte) []byte { return bytes.Join(bytes.Fields(fhirText(s)), []byte{' '}) }

// uriReference tells whether a text is one. An address of IPv6 is taken for none.
func uriReference(s []byte) bool {
	for _, b := range s {
		if b <= ' ' || b > '~' || strings.IndexByte("\"<>[]\\^`{|}", b) >= 0 {
			return false
		}
	}
	for rest := s; ; {
		_, after, found := bytes.Cut(rest, []byte{'%'})
		if !found {
			break
		}
		if len(after) < 2 || !isHex(after[0]) || !isHex(after[1]) {
			return false
		}
		rest = after
	}
	_, err := url.Parse(string(s))
	return err == nil && bytes.Count(s, []byte{'#'}) < 2
}

func isHex(b byte) bool { return b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'f' }
