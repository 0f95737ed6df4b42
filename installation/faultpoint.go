//go:build faultpoints

package installation

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// envFaultPoint says where a build with the tag faultpoints kills itself, such as
// "after_flush,3,2ms": 2 ms after it has passed the point after_flush for the third time.
// The points are those of resumetoken.KafkaOptions and publisher.Options. Without a delay
// the process goes no further. With a delay it goes on meanwhile, so it dies in a later step.
const envFaultPoint = "FAULT_POINT"

// faultPoint returns what ends this process as SIGKILL from outside does.
func faultPoint(log *zap.Logger) (func(point string), error) {
	text := os.Getenv(envFaultPoint)
	if text == "" {
		return nil, nil
	}
	parts := strings.Split(text, ",")
	if len(parts) != 3 {
		return nil, fmt.Errorf("%s=%q: want point,times,delay", envFaultPoint, text)
	}
	times, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s=%q: %w", envFaultPoint, text, err)
	}
	delay, err := time.ParseDuration(parts[2])
	if err != nil {
		return nil, fmt.Errorf("%s=%q: %w", envFaultPoint, text, err)
	}
	log.Warn("this build is for tests and kills itself", zap.String("point", text))
	var passed atomic.Int64
	return func(point string) {
		if point != parts[0] || passed.Add(1) != times {
			return
		}
		if delay == 0 {
			kill()
		}
		time.AfterFunc(delay, kill)
	}, nil
}

// kill ends the process. Nothing after it runs.
func kill() {
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Kill()
	}
	panic(fmt.Sprint("cannot kill this process: ", err))
}
