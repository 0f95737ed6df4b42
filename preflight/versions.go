package preflight

import (
	"regexp"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// What has versions that are judged.
const (
	mongoDB = "MongoDB"
	kafka   = "Kafka"
	// transactionFeature is the brokers' name for the version of their transactions.
	transactionFeature = "transaction.version"
)

// release is a version, from its most important number on.
type release [3]int64

func (r release) before(other release) bool { return slices.Compare(r[:], other[:]) < 0 }

// known is a finding about the versions from one to before another.
type known struct {
	what         string
	from, before release
	level        Level
	// found follows the version, advice is what to do.
	found, advice string
}

// knowledge is all that is known of versions, in one place. Faults of MongoDB's are from its
// release notes.
func knowledge() []known {
	const lateEnd = "without it each message to end a transaction that gets lost interrupts the stream, since one that comes late could end the next transaction"
	return []known{
		{mongoDB, release{}, release{6}, Error, "", "the daemon needs MongoDB 6.0 or newer"},
		{mongoDB, release{8, 2, 0}, release{8, 2, 1}, Warning, ", in which change streams are slow (SERVER-109626)", "use 8.2.1 or newer"},
		{mongoDB, release{9, 0, 0}, release{9, 0, 2}, Warning, ", whose new reader of change streams was withdrawn (SERVER-134970, SERVER-135099)", "use 9.0.2 or newer"},
		{kafka, release{}, release{4}, Warning, ", which has no " + transactionFeature + " 2", "use Kafka 4.0 or newer: " + lateEnd},
		{transactionFeature, release{}, release{2}, Warning, "", "raise it with kafka-features.sh upgrade --feature " + transactionFeature + "=2 (Kafka 4.0 or newer): " + lateEnd},
	}
}

// tried are the versions that the tests run with where there is no other.
func tried() map[string]string { return map[string]string{mongoDB: "6.0", kafka: "4.3"} }

// judge is the finding about a version, which text tells.
func judge(subject, what string, version release, text string) Finding {
	for _, k := range knowledge() {
		if k.what == what && !version.before(k.from) && version.before(k.before) {
			return Finding{Level: k.level, Subject: subject, Found: text + k.found, Advice: k.advice}
		}
	}
	if with := tried()[what]; with != "" {
		text += " (tried: " + with + ")"
	}
	return ok(subject, "%s", text)
}

// kafkaVersions judges the brokers' version, by the requests that they take, and the version of
// transactions that they have agreed on.
func kafkaVersions(answer *kmsg.ApiVersionsResponse) []Finding {
	var findings []Finding
	guess := kversion.FromApiVersionsResponse(answer).VersionGuess()
	// Brokers of others than Apache Kafka have no such version.
	if parts := regexp.MustCompile(`^(?:at least )?v(\d+)\.(\d+)`).FindStringSubmatch(guess); parts != nil {
		major, _ := strconv.ParseInt(parts[1], 10, 64)
		minor, _ := strconv.ParseInt(parts[2], 10, 64)
		finding := judge("Kafka: version", kafka, release{major, minor}, guess+" by the requests that it takes")
		findings = append(findings, finding)
		if finding.Level != OK {
			return findings
		}
	}
	level := int16(0)
	for _, f := range answer.FinalizedFeatures {
		if f.Name == transactionFeature {
			level = f.MaxVersionLevel
		}
	}
	text := strconv.Itoa(int(level))
	if level == 0 {
		text = "none is told, so it counts as 1"
	}
	return append(findings, judge("Kafka: "+transactionFeature, transactionFeature, release{int64(level)}, text))
}
