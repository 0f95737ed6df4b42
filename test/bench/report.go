package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// drainResult is one run over the backlog. CPU and memory are of the contender's
// process from its start to the last record; 0 where the machine does not tell.
type drainResult struct {
	Kind       string  `json:"kind"`
	Round      int     `json:"round"`
	What       string  `json:"what"`
	Docs       int     `json:"docs"`
	Rate       float64 `json:"rate"` // records a second, from the first record to the last
	Seconds    float64 `json:"seconds"`
	FirstMS    float64 `json:"first_ms"` // from the start of the process to the first record
	CPU        float64 `json:"cpu_s"`
	CPUStart   float64 `json:"cpu_start_s"` // what of it came before the first record
	RSS        float64 `json:"rss_mib"`     // the peak
	Records    int     `json:"records"`
	Distinct   int     `json:"distinct"`
	Duplicates int     `json:"duplicates"`
	Disordered int     `json:"disordered"`
	ValueBytes float64 `json:"value_bytes"` // of a record, on average
	CPUMongoDB float64 `json:"cpu_mongodb_s"`
	CPUKafka   float64 `json:"cpu_kafka_s"`
	Load       float64 `json:"load1"`
}

// latencyResult is one measurement of latency, in milliseconds.
type latencyResult struct {
	Kind       string  `json:"kind"`
	What       string  `json:"what"`
	Rate       int     `json:"rate"`
	Writes     int     `json:"writes"`
	Measured   int     `json:"measured"`
	Min        float64 `json:"min_ms"`
	P50        float64 `json:"p50_ms"`
	P90        float64 `json:"p90_ms"`
	P99        float64 `json:"p99_ms"`
	Max        float64 `json:"max_ms"`
	WriterLate float64 `json:"writer_late_ms"` // how far behind its timetable the writer was at most
	CPU        float64 `json:"cpu_s"`
	CPUMongoDB float64 `json:"cpu_mongodb_s"`
	CPUKafka   float64 `json:"cpu_kafka"` // processors
	// Transactions are those of each partition, a second; 0 without transactions.
	Transactions float64 `json:"transactions"`
	RSS          float64 `json:"rss_mib"`
	Load         float64 `json:"load1"`
}

func (b *bench) noteDrain(r drainResult, round int) drainResult {
	r.Kind, r.Round = "drain", round
	b.say("round %d  %-24s %8.0f/s  %5.2f s CPU  %4.0f MiB  first after %.0f ms  load %.1f", round, r.What, r.Rate, r.CPU, r.RSS, r.FirstMS, r.Load)
	b.emit(r)
	return r
}

func (b *bench) noteLatency(r latencyResult) latencyResult {
	r.Kind = "latency"
	b.say("latency  %-24s at %4d/s: p50 %.1f ms, p99 %.1f ms, %.0f transactions/s, broker %.2f CPU s/s  load %.1f",
		r.What, r.Rate, r.P50, r.P99, r.Transactions, r.CPUKafka, r.Load)
	b.emit(r)
	return r
}

// emit writes a JSON line. An error of it is that of closing the file.
func (b *bench) emit(result any) {
	if b.json != nil {
		_ = json.NewEncoder(b.json).Encode(result)
	}
}

// spread is a column: the median and, in brackets, the least and the most.
func spread(values []float64, digits int) string {
	if len(values) == 0 {
		return "-"
	}
	slices.Sort(values)
	show := func(v float64) string { return grouped(strconv.FormatFloat(v, 'f', digits, 64)) }
	if len(values) == 1 {
		return show(values[0])
	}
	low, high := show(values[0]), show(values[len(values)-1])
	if low == high {
		return low
	}
	return fmt.Sprintf("%s (%s-%s)", show(median(values)), low, high)
}

// median of sorted values.
func median(sorted []float64) float64 {
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// grouped puts commas between thousands.
func grouped(number string) string {
	whole, fraction, found := strings.Cut(number, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if found {
		whole += "." + fraction
	}
	return whole
}

// sortedOf are the values of one contender's results, ascending.
func sortedOf(results []drainResult, what string, value func(drainResult) float64) []float64 {
	var values []float64
	for _, r := range results {
		if r.What == what {
			values = append(values, value(r))
		}
	}
	slices.Sort(values)
	return values
}

// drainRows are medians, and the ratios of the medians to the plain loop's and the bare
// stream's.
func drainRows(results []drainResult) [][]string {
	column := func(what string, value func(drainResult) float64) []float64 { return sortedOf(results, what, value) }
	rate := func(r drainResult) float64 { return r.Rate }
	cpu := func(r drainResult) float64 { return r.CPU }
	ratio := func(of, to float64) string {
		if of == 0 || to == 0 {
			return "-"
		}
		return fmt.Sprintf("%.2f", of/to)
	}
	bareRate, loopRate, loopCPU := median(column(nameBare, rate)), median(column(nameLoop, rate)), median(column(nameLoop, cpu))
	rows := [][]string{{"what", columnRate, "/ loop", "/ bare", "CPU s", "/ loop", columnCPU, columnMemory, "first record ms", "records", "distinct", "bytes", "mongod CPU s", "broker CPU s", "load"}}
	for _, what := range []string{nameBare, nameLoop, nameExactlyOnce, nameAtLeastOnce, nameMongoDBConnector, nameDebezium} {
		rates, cpus := column(what, rate), column(what, cpu)
		if len(rates) == 0 {
			continue
		}
		rows = append(rows, []string{
			what, spread(rates, 0), ratio(median(rates), loopRate), ratio(median(rates), bareRate),
			spread(cpus, 2), ratio(median(cpus), loopCPU),
			spread(column(what, func(r drainResult) float64 { return r.CPU - r.CPUStart }), 2),
			spread(column(what, func(r drainResult) float64 { return r.RSS }), 0),
			spread(column(what, func(r drainResult) float64 { return r.FirstMS }), 0),
			spread(column(what, func(r drainResult) float64 { return float64(r.Records) }), 0),
			spread(column(what, func(r drainResult) float64 { return float64(r.Distinct) }), 0),
			fmt.Sprintf("%.0f", median(column(what, func(r drainResult) float64 { return r.ValueBytes }))),
			spread(column(what, func(r drainResult) float64 { return r.CPUMongoDB }), 2),
			spread(column(what, func(r drainResult) float64 { return r.CPUKafka }), 2),
			spread(column(what, func(r drainResult) float64 { return r.Load }), 1),
		})
	}
	return rows
}

// latencyTable writes medians of the rounds, with their range.
func latencyTable(w io.Writer, results []latencyResult) {
	rows := [][]string{{"what", "writes/s", "min ms", "p50", "p90", "p99", "max", "transactions/s", "broker CPU s/s", "CPU s", "peak RSS MiB", "writer late ms", "load"}}
	for _, first := range results {
		of := func(value func(latencyResult) float64, digits int) string {
			var values []float64
			for _, r := range results {
				if r.What == first.What && r.Rate == first.Rate {
					values = append(values, value(r))
				}
			}
			return spread(values, digits)
		}
		row := []string{
			first.What, strconv.Itoa(first.Rate),
			of(func(r latencyResult) float64 { return r.Min }, 1), of(func(r latencyResult) float64 { return r.P50 }, 1),
			of(func(r latencyResult) float64 { return r.P90 }, 1), of(func(r latencyResult) float64 { return r.P99 }, 1),
			of(func(r latencyResult) float64 { return r.Max }, 1), of(func(r latencyResult) float64 { return r.Transactions }, 0),
			of(func(r latencyResult) float64 { return r.CPUKafka }, 2), of(func(r latencyResult) float64 { return r.CPU }, 2),
			of(func(r latencyResult) float64 { return r.RSS }, 0), of(func(r latencyResult) float64 { return r.WriterLate }, 1),
			of(func(r latencyResult) float64 { return r.Load }, 1),
		}
		if !slices.ContainsFunc(rows, func(other []string) bool { return slices.Equal(other[:2], row[:2]) }) {
			rows = append(rows, row)
		}
	}
	writeTable(w, rows)
}

// writeTable writes a Markdown table that is also readable as it is.
func writeTable(w io.Writer, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(w, "| %-*s ", widths[i], cell)
		}
		fmt.Fprintln(w, "|")
		if n == 0 {
			for _, width := range widths {
				fmt.Fprint(w, "|"+strings.Repeat("-", width+2))
			}
			fmt.Fprintln(w, "|")
		}
	}
}
