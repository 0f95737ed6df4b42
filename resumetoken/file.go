package resumetoken

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// File keeps the positions of one process's streams in one JSON file. While any
// of them is acquired, a lock on the file's sibling "<path>.lock" keeps every
// other process out; the lock ends with the process, however that ends. Each Save
// replaces the file as a whole and syncs it, so a crash leaves the positions from before
// or after the Save, nothing in between.
//
// The directory must exist and be writable, and must be on a file system where
// locks work across processes (a network share may not be).
type File struct {
	path   string
	writer string

	mu        sync.Mutex
	lock      *os.File
	positions map[string]json.RawMessage
	history   map[string][]json.RawMessage
	// owners counts how often each stream has been acquired in this process; a store with
	// an older count has been replaced.
	owners map[string]int
	held   int
}

// fileForm is the content of the file: per stream one position, in Encode's form, and the
// first positions of the last hours, oldest first.
type fileForm struct {
	Version   int                          `json:"v"`
	Positions map[string]json.RawMessage   `json:"positions"`
	History   map[string][]json.RawMessage `json:"history,omitempty"`
}

// NewFile is a file of positions at path; writer names this process in it.
// Nothing is opened before the first stream is acquired.
func NewFile(path, writer string) *File {
	return &File{path: path, writer: writer, owners: make(map[string]int)}
}

// Stream is the store of one stream's position in the file. Acquire returns an error that
// is ErrFenced if another process uses the file. So no process can take the file away from
// another.
func (f *File) Stream(name string) Keeper {
	return &fileStore{file: f, stream: name}
}

type fileStore struct {
	file   *File
	stream string
	// epoch is the count in File.owners at this store's Acquire, 0 before it.
	epoch int
	last  bson.Timestamp
}

// Acquire implements Store.
func (s *fileStore) Acquire(context.Context) (Position, error) {
	f := s.file
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.epoch == 0 {
		if err := f.open(); err != nil {
			return Position{}, err
		}
		f.held++
	}
	f.owners[s.stream]++
	s.epoch = f.owners[s.stream]
	data, ok := f.positions[s.stream]
	if !ok {
		s.last = bson.Timestamp{}
		return Position{}, ErrNone
	}
	p, err := Decode(data)
	if err != nil {
		return Position{}, fmt.Errorf("read position file %s: stream %q: %w", f.path, s.stream, err)
	}
	s.last = forwardFrom(p)
	return p, nil
}

// Save implements Store.
func (s *fileStore) Save(_ context.Context, p Position) error {
	f := s.file
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case s.epoch == 0:
		return fmt.Errorf("save position of stream %q: %w", s.stream, errNotAcquired)
	case s.epoch != f.owners[s.stream]:
		return fmt.Errorf("save position of stream %q: %w", s.stream, ErrFenced)
	}
	if err := checkForward(s.last, p.order()); err != nil {
		return fmt.Errorf("save position of stream %q: %w", s.stream, err)
	}
	data, err := Encode(p, f.writer)
	if err != nil {
		return err
	}
	before, had := f.positions[s.stream]
	hours := f.history[s.stream]
	f.positions[s.stream] = data
	if newHour(s.last, p.order()) {
		f.history[s.stream] = append(slices.Clone(hours[max(0, len(hours)-historyHours+1):]), data)
	}
	if err := f.write(); err != nil {
		// A Save of another stream writes all positions: it must not store the
		// position that this one reports as failed.
		f.history[s.stream] = hours
		if had {
			f.positions[s.stream] = before
		} else {
			delete(f.positions, s.stream)
		}
		return fmt.Errorf("write position file: %w", err)
	}
	s.last = p.order()
	return nil
}

// Close implements Store. The lock is given up with the file's last store.
func (s *fileStore) Close(context.Context) error {
	f := s.file
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.epoch == 0 {
		return nil
	}
	s.epoch = 0
	f.held--
	if f.held > 0 {
		return nil
	}
	err := f.lock.Close()
	f.lock = nil
	if err != nil {
		return fmt.Errorf("close position file's lock: %w", err)
	}
	return nil
}

// open takes the lock and reads the file, if that has not been done.
func (f *File) open() error {
	if f.lock != nil {
		return nil
	}
	lock, err := openLock(f.path+".lock", os.O_CREATE)
	if err != nil {
		return fmt.Errorf("open position file's lock: %w", err)
	}
	if err := lockFile(lock); err != nil {
		return errors.Join(fmt.Errorf("lock position file %s: %w", f.path, err), lock.Close())
	}
	form, err := readPositions(f.path)
	if err != nil {
		return errors.Join(fmt.Errorf("read position file: %w", err), lock.Close())
	}
	// Inspect of another process reads the owner here.
	if err := errors.Join(lock.Truncate(0), writeAt(lock, f.writer)); err != nil {
		return errors.Join(fmt.Errorf("write position file's lock: %w", err), lock.Close())
	}
	f.lock, f.positions, f.history = lock, form.Positions, form.History
	return nil
}

// readPositions reads the file. A missing file has no positions; a file that cannot be
// understood is an error, since taking it for empty would skip changes.
func readPositions(path string) (fileForm, error) {
	var form fileForm
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return form, err
	default:
		if err := json.Unmarshal(data, &form); err != nil {
			return form, fmt.Errorf("%s: %w", path, err)
		}
		if err := checkVersion(form.Version); err != nil {
			return form, fmt.Errorf("%s: %w", path, err)
		}
	}
	if form.Positions == nil {
		form.Positions = make(map[string]json.RawMessage)
	}
	if form.History == nil {
		form.History = make(map[string][]json.RawMessage)
	}
	return form, nil
}

// write replaces the file: a new one is written and synced, takes the old one's
// name, and the directory is synced so that the name survives a power cut too.
func (f *File) write() error {
	data, err := json.MarshalIndent(fileForm{Version: handoverVersion, Positions: f.positions, History: f.history}, "", "  ")
	if err != nil {
		return err
	}
	// The lock is held, so no other process writes to this name.
	next := f.path + ".tmp"
	if err := writeSynced(next, append(data, '\n')); err != nil {
		return err
	}
	if err := os.Rename(next, f.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(f.path))
}

// writeSynced makes the file anew. A file of that name is left from a crash, or is a link to
// somebody else's file, which must not be overwritten.
func writeSynced(path string, data []byte) error {
	if info, err := os.Lstat(path); err == nil && !info.IsDir() {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func writeAt(file *os.File, text string) error {
	_, err := file.WriteAt([]byte(text), 0)
	return err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

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
	lock, err := openLock(path, 0)
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
