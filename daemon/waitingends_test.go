package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// However a stream ends, and however often, nothing is lost and nothing comes twice, the
// events of each resource come in order, and the position stays small.
func TestWaitingThroughEnds(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { endless(t, rand.New(rand.NewPCG(seed, 1)), seed%2 == 0) })
		})
	}
}

func endless(t *testing.T, random *rand.Rand, large bool) {
	start := time.Now()
	h := &histories{from: map[string]time.Time{}}
	source := &timed{script: &script{fingerprint: "f", begin: token(1)}}
	versions, now := map[string]int{}, start
	var requests []string
	for n := 10; n < 710; n++ {
		if random.IntN(3) > 0 {
			now = now.Add(time.Duration(random.IntN(30)) * ms)
		}
		source.at = append(source.at, now)
		if random.IntN(10) == 0 {
			request := fmt.Sprintf("r%d", n-random.IntN(3))
			source.changes = append(source.changes, accessLog(t, n, request))
			requests = append(requests, request)
			continue
		}
		more := 0
		if large && n < 709 && random.IntN(8) == 0 { // after the last one nothing comes that can be stored
			more = random.IntN(2 * maxTokenBytes)
		}
		id := fmt.Sprintf("c%d", random.IntN(200))
		versions[id]++
		source.changes = append(source.changes, enlarged(t, n, put(t, n, id, versions[id]), more))
		if random.IntN(20) > 0 {
			h.from[fmt.Sprintf("%s/%d", id, versions[id])] = now.Add(time.Duration(random.IntN(1<<random.IntN(12))) * ms)
		}
	}
	slices.Sort(requests)
	requests = slices.Compact(requests)
	r := &records{}
	for life := 0; len(source.changes) > 0; life++ {
		s := stream(source, &timed{script: &script{scanned: source.changes}}, &r.kept, func(o *Options, f *Facts) {
			f.RequestIDs, f.Persons, o.SeenWindow = h, nobody{}, time.Minute
			o.MaxRecords, o.IdleInterval = 1+random.IntN(100), time.Duration(random.IntN(2))*time.Second
		})
		s.parts.Publish = r.publisher
		if random.IntN(3) == 0 {
			s.bound.shrink(1+random.IntN(100), time.Hour)
		}
		s.Resume() // The life before may have ended in its pause.
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		rest := time.Duration(random.IntN(3000)) * ms
		if time.Since(start) > 20*time.Second {
			rest = 2 * time.Minute // the last life
		}
		<-time.After(rest)
		switch random.IntN(3) {
		case 0: // a crash: nothing more is committed
			cancel(errLost)
		case 1:
			s.Pause()
			synctest.Wait()
			s.Resume()
			<-time.After(time.Duration(random.IntN(500)) * ms)
			cancel(nil)
		default:
			cancel(nil)
		}
		if err := <-done; err != nil && !errors.Is(err, errLost) {
			t.Fatal(err)
		}
		if rest > time.Minute {
			break
		}
	}
	got, ids, usage := map[string][]string{}, map[string]int{}, 0
	for _, one := range r.all {
		if ids[one.id]++; ids[one.id] > 1 {
			t.Errorf("%s came twice", one.id)
		}
		if !strings.HasPrefix(one.key, "c") || len(one.key) > 4 {
			usage++
			continue
		}
		got[one.key] = append(got[one.key], one.id)
	}
	want := map[string][]string{}
	m := stream(source, nil, &r.kept, nil).parts.Mapper
	for _, raw := range source.changes {
		var c mapper.Change
		var out mapper.Output
		m.Read(raw, &c)
		m.Append(&c, mapper.Facts{}, &out)
		if id := c.Resource(); id != "" {
			want[id] = append(want[id], out.Events[0].ID)
		}
	}
	for id, all := range want {
		if !slices.Equal(got[id], all) {
			t.Errorf("%s: %d events of %d versions, or in another order", id, len(got[id]), len(all))
		}
	}
	if usage != len(requests) {
		t.Errorf("%d usage events of %d requests", usage, len(requests))
	}
	if r.most > maxRuns || r.runBytes > maxRunBytes || r.largest > maxTokenBytes {
		t.Errorf("a position has %d runs of %d bytes, or a token of %d", r.most, r.runBytes, r.largest)
	}
	t.Logf("%d events, at most %d runs of %d bytes in a position, tokens up to %d bytes, %d looks", len(r.all), r.most, r.runBytes, r.largest, h.looks)
}
