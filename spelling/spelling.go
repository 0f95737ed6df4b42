// Package spelling says how far a misspelt name is from a right one.
//
// config and resourcetype import it; it imports nothing of ours.
package spelling

// Distance counts the edits between a and b: insert, delete or replace a letter,
// or swap two neighbours.
func Distance(a, b string) int {
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
