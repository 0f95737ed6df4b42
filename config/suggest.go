package config

import "strings"

// nearest returns the name that was probably meant by an unknown one, or "" if none is
// near. The parts of names are compared, because a few letters are much of a short part and
// little of the whole; a name without its section, or in the wrong one, is as common as a
// misspelt one.
func nearest(unknown string, names []string, separator string) string {
	best, bestScore := "", 0
	take := func(name string) {
		if score := distance(unknown, name); best == "" || score < bestScore {
			best, bestScore = name, score
		}
	}
	for _, name := range names {
		const slips = 2 // Of separators too, in names long enough for two to be few.
		alike := len(unknown) > 4*slips && distance(unknown, name) <= slips
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
	return distance(a, b) <= max(1, max(len(a), len(b))/share)
}

func lastPart(name, separator string) string {
	return name[strings.LastIndex(name, separator)+1:]
}

// distance counts the edits between a and b: insert, delete or replace a letter,
// or swap two neighbours.
func distance(a, b string) int {
	s, t := []rune(cut(a)), []rune(cut(b))
	before, last, row := make([]int, len(t)+1), make([]int, len(t)+1), make([]int, len(t)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(s); i++ {
		row[0] = i
		for j := 1; j <= len(t); j++ {
			replace := last[j-1]
			if s[i-1] != t[j-1] {
				replace++
			}
			row[j] = min(last[j]+1, row[j-1]+1, replace)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(t)]
}

// cut bounds the work for absurdly long names.
func cut(s string) string {
	const longest = 128
	return s[:min(len(s), longest)]
}
