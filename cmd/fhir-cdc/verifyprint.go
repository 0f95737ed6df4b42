package main

import (
	"cmp"
	"fmt"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

func printVerify(s *terminal.Screen, r *replay.VerifyResult, repeats bool) error {
	table := terminal.NewTable("topic", "kinds", ">records", ">expected", ">missing", ">held", ">repaired", ">duplicated", ">unexpected", ">out of order", ">unseen")
	for _, t := range r.Topics {
		duplicated := fault(t.Duplicated)
		if repeats && t.Duplicated > 0 {
			duplicated.Style = terminal.Yellow // by contract
		}
		table.Row(terminal.Text(t.Topic), terminal.Text(kindList(t.Kinds)), number(t.Records), number(t.Expected),
			fault(t.Missing), fault(t.Held), number(t.Repaired), duplicated, fault(t.Unexpected), fault(t.OutOfOrder), number(t.Unseen))
	}
	if err := table.Print(s); err != nil {
		return err
	}
	var lines []string
	for _, stream := range r.Streams {
		line := fmt.Sprintf("stream %s, changes from %s to %s", stream.Stream, terminal.Time(stream.Since), terminal.Time(stream.Until))
		if stream.OplogSince.After(stream.Since) {
			line += fmt.Sprintf(", until %s told by the collections and their history only", terminal.Time(stream.OplogSince))
		}
		lines = append(lines, line)
	}
	for _, note := range r.Notes {
		lines = append(lines, s.Paint(terminal.Yellow, "note: ")+note)
	}
	lines = append(lines, examples(s, r)...)
	if r.Clean {
		lines = append(lines, s.Paint(terminal.Green, "clean"))
	}
	return s.Print(lines...)
}

func number(n int64) terminal.Cell { return terminal.Text(terminal.Count(n)) }

func fault(n int64) terminal.Cell {
	if n > 0 {
		return terminal.Styled(terminal.Red, terminal.Count(n))
	}
	return number(n)
}

func kindList(kinds []mapper.Kind) (text string) {
	for i, k := range kinds {
		if i > 0 {
			text += ","
		}
		text += string(k)
	}
	return text
}

// examples names what is wrong, line by line.
func examples(s *terminal.Screen, r *replay.VerifyResult) (lines []string) {
	for _, e := range r.Missing {
		lines = append(lines, fmt.Sprintf("%s %s of %s, changed %s", s.Paint(terminal.Red, "missing"), e.ID, e.Namespace, terminal.Time(e.Changed)))
	}
	for _, d := range r.Duplicated {
		for _, again := range d.Again {
			lines = append(lines, fmt.Sprintf("%s %s at %s, first at %s", s.Paint(terminal.Red, "duplicated"), d.First.ID, placeText(again), placeText(d.First)))
		}
	}
	for _, p := range r.Unexpected {
		lines = append(lines, fmt.Sprintf("%s %s at %s, %s: %s", s.Paint(terminal.Red, "unexpected"), cmp.Or(p.ID, "(no event id)"), placeText(p), terminal.Time(p.Timestamp), reasonText(p)))
	}
	for _, d := range r.OutOfOrder {
		lines = append(lines, fmt.Sprintf("%s %s at %s comes before %s at offset %d, which was changed earlier",
			s.Paint(terminal.Red, "out of order"), d.ID, placeText(d.Place), d.After, d.AfterOffset))
	}
	return lines
}

// reasonText says why a record is unexpected. Of keys that nobody knows it tells no more
// than their length.
func reasonText(p replay.RecordPlace) string {
	switch {
	case p.Reason == replay.ReasonOtherKey:
		return "another key than the event of this id has"
	case p.Reason == replay.ReasonNoID && p.KeyBytes > 0:
		return fmt.Sprintf("of another producer, with a key of %d bytes", p.KeyBytes)
	case p.Reason == replay.ReasonNoID:
		return "of another producer, without a key"
	}
	return "an event of which MongoDB does not tell"
}

func placeText(p replay.RecordPlace) string {
	return fmt.Sprintf("%s/%d@%d", p.Topic, p.Partition, p.Offset)
}
