package installation

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// Logging is the logger, whose level can be changed and whose lines are counted.
type Logging struct {
	*zap.Logger
	level zap.AtomicLevel
	// configured is log.level.
	configured zapcore.Level
	levels     []zapcore.Level
	logged     []atomic.Uint64
}

// NewLogger is the logger of a command that ends by itself.
func NewLogger(c config.Log, w io.Writer) (*zap.Logger, error) {
	l, err := NewLogging(c, w)
	if err != nil {
		return nil, err
	}
	return l.Logger, nil
}

// NewLogging logs to w, one line for each change of state. Nothing is sampled: a
// burst of errors is what an operator wants to see whole.
func NewLogging(c config.Log, w io.Writer) (*Logging, error) {
	level, err := zap.ParseAtomicLevel(string(c.Level))
	if err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	encoding := zap.NewProductionEncoderConfig()
	encoding.TimeKey = "time"
	encoding.EncodeTime = zapcore.TimeEncoderOfLayout(time.RFC3339Nano)
	encoding.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(encoding)
	if c.Format == config.LogConsole || (c.Format == config.LogAuto && terminal.New(w, nil).Interactive()) {
		encoding.EncodeLevel = zapcore.CapitalLevelEncoder
		encoding.EncodeDuration = func(d time.Duration, line zapcore.PrimitiveArrayEncoder) { line.AppendString(terminal.Duration(d)) }
		encoding.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		encoder = zapcore.NewConsoleEncoder(encoding)
	}
	l := &Logging{level: level, configured: level.Level(), levels: []zapcore.Level{zap.DebugLevel, zap.InfoLevel, zap.WarnLevel, zap.ErrorLevel}}
	l.logged = make([]atomic.Uint64, len(l.levels))
	l.Logger = zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(terminal.Above(w))), level), zap.Hooks(l.count))
	return l, nil
}

func (l *Logging) count(e zapcore.Entry) error {
	for i, level := range l.levels {
		if e.Level == level {
			l.logged[i].Add(1)
		}
	}
	return nil
}

// Counts are the lines logged so far by level.
func (l *Logging) Counts() map[string]uint64 {
	n := make(map[string]uint64, len(l.levels))
	for i, level := range l.levels {
		n[level.String()] = l.logged[i].Load()
	}
	return n
}

// Current is the level that is logged from now.
func (l *Logging) Current() string { return l.level.String() }

// parse gives the level of a name.
func (l *Logging) parse(name string) (zapcore.Level, error) {
	level, err := zapcore.ParseLevel(name)
	if err != nil || name == "" || !slices.Contains(l.levels, level) {
		return 0, fmt.Errorf("log level %q is not one of debug, info, warn, error", name)
	}
	return level, nil
}

// Check tells why a name is no level.
func (l *Logging) Check(name string) error {
	_, err := l.parse(name)
	return err
}

// Set changes the level.
func (l *Logging) Set(name string) error {
	level, err := l.parse(name)
	if err != nil {
		return err
	}
	l.level.SetLevel(level)
	return nil
}

// toggleDebug changes between debug and the configured level.
func (l *Logging) toggleDebug() {
	to := zap.DebugLevel
	if l.level.Level() == zap.DebugLevel {
		to = l.configured
	}
	// At debug the line about the change is logged, whatever the level was.
	l.level.SetLevel(zap.DebugLevel)
	l.Info("log level changed by a signal", zap.Stringer("to", to))
	l.level.SetLevel(to)
}

// Follow toggles the level at each signal until the function that it returns is called.
func (l *Logging) Follow() (stop func()) {
	signals := make(chan os.Signal, 1)
	if !notifyLevel(signals) {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range signals {
			l.toggleDebug()
		}
	}()
	return func() { signal.Stop(signals); close(signals); <-done }
}

// CommandLog is the log of a command that an operator waits for. It has warnings and errors,
// and more only if the configuration asks for it.
func CommandLog(cfg *config.Config, stderr io.Writer) (*zap.Logger, error) {
	c := cfg.Log
	if c.Level == config.Default().Log.Level {
		c.Level = "warn"
	}
	return NewLogger(c, stderr)
}
