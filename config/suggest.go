package config

import "strings"

// nearestKey returns the valid key that was probably meant by an unknown one. The
// whole key is compared, and also its last part alone, because a key in the wrong
// section is as common as a misspelt one.
func nearestKey(unknown string, valid []string) string {
	best, bestScore, bestWhole := "", 0, 0
	for _, key := range valid {
		whole := distance(unknown, key)
		score := min(whole, 1+2*distance(lastPart(unknown), lastPart(key)))
		if best == "" || score < bestScore || score == bestScore && whole < bestWhole {
			best, bestScore, bestWhole = key, score, whole
		}
	}
	return best
}

func lastPart(key string) string { return key[strings.LastIndexByte(key, '.')+1:] }

// nearest returns the candidate with the smallest distance, the first of equals.
func nearest(word string, candidates []string) string {
	best, bestScore := "", 0
	for _, c := range candidates {
		if d := distance(word, c); best == "" || d < bestScore {
			best, bestScore = c, d
		}
	}
	return best
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
