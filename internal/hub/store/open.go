package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// lockWait is how long opening waits for another process to let go of the file.
// Opening locks twice and has to be done within two seconds.
const lockWait = 800 * time.Millisecond

var errEmpty = errors.New("it is empty")

// OpenBolt opens the store at path, which must exist, and checks all of it.
// Errors: fs.ErrNotExist, ErrInUse after less than two seconds, *DamagedError;
// in each case the file stays as it was. The caller closes it.
func OpenBolt(path string) (*Bolt, error) {
	if err := check(path); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	b, err := open(path, 0, bolt.Options{})
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return b, nil
}

// CreateBolt makes a new, empty store at path for the current user alone (mode
// 0600) and opens it. When path exists it returns fs.ErrExist and touches
// nothing. The caller closes it.
func CreateBolt(path string) (*Bolt, error) {
	b, err := open(path, os.O_CREATE|os.O_EXCL, bolt.Options{})
	if err != nil {
		return nil, fmt.Errorf("create store: %w", err)
	}
	err = b.guard(func() error {
		return b.db.Update(func(tx *bolt.Tx) error { return writeHeader(tx, header{}) })
	})
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		err = errors.Join(err, b.Close(), os.Remove(path)) // it is ours: O_EXCL made it
		return nil, fmt.Errorf("create store %s: %w", path, err)
	}
	return b, nil
}

// open has bbolt open path. create holds the flags for a file that must not
// exist; without them it must, as bbolt would make one, or fill an empty one.
func open(path string, create int, o bolt.Options) (*Bolt, error) {
	b := &Bolt{path: path}
	b.close = sync.OnceValue(b.shut)
	o.Timeout = lockWait
	o.FreelistType = bolt.FreelistMapType
	o.OpenFile = func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
		if f, err = os.OpenFile(name, flag&^os.O_CREATE|create, mode); err != nil {
			return nil, err
		}
		b.file = f
		if info, err := f.Stat(); err != nil || create == 0 && info.Size() == 0 {
			return nil, cmp.Or(err, errEmpty)
		}
		return f, nil
	}
	err := b.guard(func() (err error) {
		b.db, err = bolt.Open(path, 0o600, &o)
		return err
	})
	if err != nil {
		return nil, b.openError(err)
	}
	return b, nil
}

// openError tells a file that is locked or out of reach from a damaged one.
func (b *Bolt) openError(err error) error {
	if b.file != nil {
		b.file.Close() // still open, and locked, if bbolt panicked
	}
	if errors.Is(err, berrors.ErrTimeout) {
		return fmt.Errorf("%s is %w", b.path, ErrInUse)
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return err // names the file
	}
	if _, ok := errors.AsType[syscall.Errno](err); ok {
		return fmt.Errorf("lock or map %s: %w", b.path, err)
	}
	if _, ok := errors.AsType[*DamagedError](err); ok {
		return err
	}
	return &DamagedError{b.path, err}
}

// syncFolder makes a new name in a folder survive a crash of the machine.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil // cannot sync a folder, and writes names through
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
