package preflight

import "fmt"

// Level says how bad a finding is.
type Level string

// The levels. An Error keeps the daemon from working; with a Warning it works, but an
// operator should know.
const (
	OK      Level = "ok"
	Warning Level = "warning"
	Error   Level = "error"
)

// Finding is the outcome of one check.
type Finding struct {
	Level Level `json:"level"`
	// Subject is what was checked, such as "topic business.events".
	Subject string `json:"subject"`
	// Found says what was found, Advice what to do about it; there is none where all
	// is well.
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

func ok(subject, format string, args ...any) Finding {
	return Finding{Level: OK, Subject: subject, Found: fmt.Sprintf(format, args...)}
}

func warning(subject, found, advice string) Finding {
	return Finding{Level: Warning, Subject: subject, Found: found, Advice: advice}
}

func failure(subject, found, advice string) Finding {
	return Finding{Level: Error, Subject: subject, Found: found, Advice: advice}
}
