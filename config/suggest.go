package config

import (
	"strings"

	"github.com/fhir-cdc/fhir-cdc/spelling"
)

// nearest returns the name that was probably meant by an unknown one, or "" if none is
// near. The parts of names are compared, because a few letters are much of a short part and
// little of the whole; a name without its section, or in the wrong one, is as common as a
// misspelt one.
func nearest(unknown string, names []string, separator string) string {
	best, bestScore := "", 0
	take := func(name string) {
		if score := spelling.Distance(unknown, name); best == "" || score < bestScore {
			best, bestScore = name, score
		}
	}
	for _, name := range names {
		const slips = 2 // Of separators too, in names long enough for two to be few.
		alike := len(unknown) > 4*slips && spelling.Distance(unknown, name) <= slips
		if alike || partsNear(unknown, name, separator) || strings.HasSuffix(name, separator+unknown) {
			take(name)
		}
	}
	if best != "" {
		return best
	}
	// In the wrong section: only a last part that one name has tells which is meant.
	for _, name := range names {
		if last := lastPart(name, separator); last != name && near(lastPart(unknown, separator), last) {
			if best != "" {
				return ""
			}
			take(name)
		}
	}
	return best
}

// partsNear tells whether two names have as many parts, each near the other's.
func partsNear(a, b, separator string) bool {
	s, t := strings.Split(a, separator), strings.Split(b, separator)
	if len(s) != len(t) {
		return false
	}
	for i := range s {
		if !near(s[i], t[i]) {
			return false
		}
	}
	return true
}

// near tells whether one word may be the other misspelt: a third of its letters, or one.
func near(a, b string) bool {
	const share = 3
	return spelling.Distance(a, b) <= max(1, max(len(a), len(b))/share)
}

func lastPart(name, separator string) string {
	return name[strings.LastIndex(name, separator)+1:]
}
