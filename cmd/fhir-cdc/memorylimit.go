package main

import (
	"errors"
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"go.uber.org/zap"
)

// memoryShare is how much of the container's memory the Go runtime may take. The rest is
// for what it does not count, and for what is allocated while garbage is collected.
const memoryShare = 0.85

// keepWithinContainer has garbage collected in time where the container's memory is
// limited. Without, the runtime lets garbage grow to as much as is in use, and a process
// that uses more than half of its container's memory is ended by the kernel. GOMEMLIMIT,
// if it is set, holds instead.
func keepWithinContainer(log *zap.Logger) {
	_, err := memlimit.SetGoMemLimitWithOpts(memlimit.WithRatio(memoryShare), memlimit.WithProvider(memlimit.FromCgroup))
	if err != nil && !errors.Is(err, memlimit.ErrCgroupsNotSupported) && !errors.Is(err, memlimit.ErrNoCgroup) {
		// It is no reason not to start: most gaps need far less.
		log.Warn("the memory limit of the container cannot be found out; if there is one, set GOMEMLIMIT to 85 % of it", zap.Error(err))
	}
}

// memoryLimit is the limit that holds, for the log.
func memoryLimit() zap.Field {
	limit := debug.SetMemoryLimit(-1) // It only asks.
	if limit == math.MaxInt64 {
		return zap.Skip()
	}
	return zap.Int64("memoryLimit", limit)
}
