package instance

import (
	"errors"
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"go.uber.org/zap"
)

// memoryShare is the part of the container's memory that the Go runtime may take. The rest is
// for memory that the runtime does not count, and for allocations while it collects garbage.
const memoryShare = 0.85

// keepWithinContainer makes the runtime collect garbage in time if the container's memory is
// limited. Otherwise garbage grows to as much as is in use, and the kernel ends a process
// that uses more than half of its container's memory. GOMEMLIMIT, if set, takes precedence.
func keepWithinContainer(log *zap.Logger) {
	_, err := memlimit.SetGoMemLimitWithOpts(memlimit.WithRatio(memoryShare), memlimit.WithProvider(memlimit.FromCgroup))
	if err != nil && !errors.Is(err, memlimit.ErrCgroupsNotSupported) && !errors.Is(err, memlimit.ErrNoCgroup) {
		// The start goes on: most installations need far less memory than there is.
		log.Warn("the memory limit of the container cannot be found out; if there is one, set GOMEMLIMIT to 85 % of it", zap.Error(err))
	}
}

// memoryLimit is the memory limit in force, for the log.
func memoryLimit() zap.Field {
	limit := debug.SetMemoryLimit(-1) // It only asks.
	if limit == math.MaxInt64 {
		return zap.Skip()
	}
	return zap.Int64("memoryLimit", limit)
}
