package main

import (
	"time"

	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// unknown stands for what cannot be found out.
const unknown = "-"

func printPositions(s *terminal.Screen, views []positionView) error {
	table := terminal.NewTable("stream", "position", ">age", ">lag", ">oplog left", "runs", "owner")
	for _, v := range views {
		row := []terminal.Cell{terminal.Text(v.Stream), positionCell(v)}
		row = append(row, terminal.Text(spanText(v.AgeSeconds)), lagCell(v), leftCell(v), runsCell(v), terminal.Text(ownerText(v)))
		table.Row(row...)
	}
	return table.Print(s)
}

func printPosition(s *terminal.Screen, v positionView) error {
	var lines []string
	add := func(name, text string) {
		const width = 14
		lines = append(lines, s.Paint(terminal.Bold, name)+spaces(width-len(name))+text)
	}
	paint := func(c terminal.Cell) string { return s.Paint(c.Style, c.Text) }
	add("stream", v.Stream+" (positions in "+v.Store+")")
	add("runs", paint(runsCell(v)))
	if v.Carrier != "" {
		add("carried by", v.Carrier)
	}
	if o := v.Owner; o != nil {
		text := o.Instance
		if o.Since != "" {
			text += ", since " + o.Since
		}
		if o.Stopped != "" {
			text += ", stopped in order " + o.Stopped
		}
		add("last owner", text)
	}
	add("position", paint(positionCell(v)))
	if p := v.Position; p != nil {
		if p.Changed != "" {
			add("last change", p.Changed+" (wall clock)")
		}
		add("stored", v.Saved)
		add("age", spanText(v.AgeSeconds))
		add("lag", paint(lagCell(v)))
		add("oplog left", paint(leftCell(v)))
		pipeline := p.Fingerprint
		if v.PipelineChanged {
			pipeline += s.Paint(terminal.Yellow, " (the configuration's is another: the stream will go on from the position's time)")
		}
		add("pipeline", pipeline)
		add("token", p.Token)
	}
	return s.Print(lines...)
}

func spaces(n int) string {
	const blank = "                "
	return blank[:max(1, min(n, len(blank)))]
}

func positionCell(v positionView) terminal.Cell {
	if v.Position == nil {
		return terminal.Styled(terminal.Dim, "none yet")
	}
	return terminal.Text(v.Position.ClusterTime.Time)
}

// A lag of a minute and an oplog of an hour are when one begins to look.
const (
	lagWorth  = time.Minute
	leftWorth = time.Hour
)

func lagCell(v positionView) terminal.Cell {
	if v.AheadSeconds != nil {
		return terminal.Styled(terminal.Red, spanText(v.AheadSeconds)+" ahead")
	}
	s := v.LagSeconds
	if s != nil && *s > lagWorth.Seconds() {
		return terminal.Styled(terminal.Yellow, spanText(s))
	}
	return terminal.Text(spanText(s))
}

func leftCell(v positionView) terminal.Cell {
	left := v.OplogLeftSeconds
	switch {
	case left == nil:
		return terminal.Text(unknown)
	case *left < 0:
		return terminal.Styled(terminal.Red, "lost")
	case *left < leftWorth.Seconds() && v.LagSeconds != nil && *v.LagSeconds > *left:
		// A young oplog has little behind any position; it is when the stream is
		// further from the end than from the beginning that it may be overtaken.
		return terminal.Styled(terminal.Red, spanText(left))
	}
	return terminal.Text(spanText(left))
}

func runsCell(v positionView) terminal.Cell {
	switch {
	case v.Running == nil:
		return terminal.Text(unknown)
	case *v.Running && v.Paused:
		return terminal.Styled(terminal.Yellow, "paused")
	case v.Paused:
		return terminal.Styled(terminal.Yellow, "no, paused")
	case *v.Running:
		return terminal.Styled(terminal.Green, "yes")
	}
	return terminal.Styled(terminal.Yellow, "no")
}

func ownerText(v positionView) string {
	switch {
	case v.Carrier != "":
		return v.Carrier
	case v.Owner == nil:
		return unknown
	case v.Owner.Stopped != "":
		return v.Owner.Instance + ", stopped " + v.Owner.Stopped
	}
	return v.Owner.Instance
}

func spanText(s *float64) string {
	if s == nil {
		return unknown
	}
	return terminal.Duration(time.Duration(*s * float64(time.Second)))
}
