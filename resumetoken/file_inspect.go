package resumetoken

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

var _ Keeper = (*fileStore)(nil)

// Inspect implements Keeper. The file is replaced as a whole, so it is read without
// its lock.
func (s *fileStore) Inspect(context.Context) (Stored, error) {
	path := s.file.path
	form, err := readPositions(path)
	if err != nil {
		return Stored{}, fmt.Errorf("read position file: %w", err)
	}
	stored := Stored{Now: time.Now()}
	if stored.Held, err = inUse(path + ".lock"); err != nil {
		return Stored{}, fmt.Errorf("read position file's lock: %w", err)
	}
	if stored.Held {
		if holder, err := os.ReadFile(path + ".lock"); err == nil {
			stored.Owner.Instance = string(holder)
		}
	}
	data, ok := form.Positions[s.stream]
	if !ok {
		return stored, nil
	}
	if stored.Position, err = Decode(data); err != nil {
		return Stored{}, fmt.Errorf("read position file %s: stream %q: %w", path, s.stream, err)
	}
	if info, err := os.Stat(path); err == nil {
		stored.Saved = info.ModTime()
	}
	stored.Owner.Seen = stored.Saved
	if stored.Held {
		return stored, nil
	}
	var head struct {
		Writer string `json:"writer"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return Stored{}, fmt.Errorf("read position file %s: stream %q: %w", path, s.stream, err)
	}
	stored.Owner.Instance = head.Writer
	return stored, nil
}

// inUse tells whether a process holds the lock, by taking it for a moment.
func inUse(path string) (bool, error) {
	lock, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = lockFile(lock)
	closed := lock.Close() // gives the lock up, if it was taken
	if errors.Is(err, ErrFenced) {
		return true, nil
	}
	return false, errors.Join(err, closed)
}

// History implements Keeper.
func (s *fileStore) History(context.Context) ([]Position, error) {
	form, err := readPositions(s.file.path)
	if err != nil {
		return nil, fmt.Errorf("read position file: %w", err)
	}
	positions := make([]Position, 0, len(form.History[s.stream]))
	for _, data := range form.History[s.stream] {
		p, err := Decode(data)
		if err != nil {
			return nil, fmt.Errorf("read position file %s: history of stream %q: %w", s.file.path, s.stream, err)
		}
		positions = append(positions, p)
	}
	return inOrder(positions), nil
}

// Reset implements Keeper.
func (s *fileStore) Reset(ctx context.Context, p Position) error {
	s.last = bson.Timestamp{}
	return s.Save(ctx, p)
}
