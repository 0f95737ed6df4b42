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

// envFaultPoint says where a build with the tag faultpoints kills itself: the name
// of a point (resumetoken.KafkaOptions, publisher.Options), at which time that it
// is passed, and how long after, such as "after_flush,3,2ms". Without a delay the
// process goes no further; with one it goes on meanwhile, so that the end falls
// into what comes next.
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
