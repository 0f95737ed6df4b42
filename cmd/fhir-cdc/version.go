package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// buildInfo describes this binary.
type buildInfo struct {
	Version string `json:"version"`
	// Commit and Time are the source's, "" if the build did not record them.
	Commit string `json:"commit,omitempty"`
	Time   string `json:"time,omitempty"`
	// Modified tells whether the source differed from the commit.
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// versionInfo takes the version that the linker set, else the module's version
// that the Go tool recorded.
func versionInfo() buildInfo {
	info := buildInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		build = &debug.BuildInfo{}
	}
	if info.Version == "" {
		info.Version = build.Main.Version
	}
	if info.Version == "" {
		info.Version = "(devel)"
	}
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			info.Commit = s.Value
		case "vcs.time":
			info.Time = s.Value
		case "vcs.modified":
			info.Modified = s.Value == "true"
		}
	}
	return info
}

// String returns the version in one line.
func (b buildInfo) String() string {
	text := "fhir-cdc " + b.Version + " ("
	if b.Commit != "" {
		text += "commit " + b.Commit[:min(len(b.Commit), 12)]
		if b.Modified {
			text += ", modified"
		}
		text += ", "
	}
	return text + b.Go + ", " + b.Platform + ")"
}

func newVersionCommand(stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  fhir-cdc version --output json",
		Args:    cobra.NoArgs,
	}
	output := cmd.Flags().StringP("output", "o", "text", "`FORM`: text or json")
	cmd.RunE = func(*cobra.Command, []string) error {
		var err error
		switch *output {
		case "text":
			_, err = fmt.Fprintln(stdout, versionInfo())
		case "json":
			err = terminal.WriteJSON(stdout, versionInfo())
		default:
			return installation.Usagef("--output %q is neither text nor json", *output)
		}
		if err != nil {
			return fmt.Errorf("print version: %w", err)
		}
		return nil
	}
	return cmd
}
