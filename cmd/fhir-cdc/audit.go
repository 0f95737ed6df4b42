package main

import (
	"cmp"
	"context"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/flagvalue"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

func newAuditCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show what was done to the installation, by whom and when",
		Long: `Show the records of the audit topic: gaps and repairs, positions that were set,
replays, backfills, controls and what else made a stream do more than carry change
after change; the oldest first. Records of other installations in the topic are left
out.`,
		Example: `  fhir-cdc audit --since 7d
  fhir-cdc audit --stream main -o json | jq '.[] | select(.action == "gap")'`,
		Args: cobra.NoArgs,
	}
	flags, output := addConfigFlags(cmd, environ), addOutputFlag(cmd)
	since := flagvalue.AddTime(cmd, "since", "leave out what was done before")
	stream := cmd.Flags().String("stream", "", "only what was done to this `STREAM`, or to all of them")
	flags.completesStreams(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return inspect(cmd, flags, stderr, func(ctx context.Context, o *installation.Installation) error {
			if err := o.MayRead(ctx, o.Config.Topics.Audit); err != nil {
				return err
			}
			records, err := o.Sink.ReadAudit(ctx, since.Time)
			if err != nil {
				return err
			}
			records = slices.DeleteFunc(records, func(r publisher.AuditRecord) bool {
				return (*stream != "" && r.Stream != "" && r.Stream != *stream) || r.Time.Before(since.Time)
			})
			return output.write(stdout, environ, records, func(s *terminal.Screen) error { return printAudit(s, records) })
		})
	}
	return cmd
}

func printAudit(s *terminal.Screen, records []publisher.AuditRecord) error {
	if len(records) == 0 {
		return s.Print("There are no records.")
	}
	table := terminal.NewTable("time", "action", "stream", "actor", "details").Drops("actor", "details")
	for _, r := range records {
		style := terminal.Plain
		if r.Action == publisher.AuditGap || r.Action == publisher.AuditCollectionGone {
			style = terminal.Yellow
		}
		table.Row(terminal.Text(terminal.Time(r.Time.Truncate(time.Second))), terminal.Styled(style, string(r.Action)), terminal.Text(cmp.Or(r.Stream, "all")),
			terminal.Text(r.Actor), terminal.Text(r.DetailText()))
	}
	return table.Print(s)
}
