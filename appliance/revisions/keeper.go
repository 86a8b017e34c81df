// Package revisions keeps the life of the configuration: what runs, what ran
// before, and what waits for a confirmation. It belongs to the supervisor. It
// never reads what a configuration says. Start reading at Keeper.commit; the
// order of its writes is what a crash relies on.
package revisions

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"komainu/appliance/control"
	"komainu/drivers/files"
	"komainu/ntp/instant"
)

// Options is what a Keeper works with.
type Options struct {
	Config string // path of the file in use
	State  string // folder of its own: NUMBER.toml and history.json; made when missing
	// Check gives what is wrong with a text, all of it in one error for people who
	// read lang ("en", also if empty, or "ja").
	Check func(text []byte, lang string) error
	// Apply makes the box work with the file that now stands at Config, in place
	// of old (nil: there was none). text is nil when there is none any more.
	Apply  func(ctx context.Context, old, text []byte) (changes, restarted []string, err error)
	Now    func() instant.Instant // the boot clock
	Wall   func() time.Time
	BootID string // of the kernel: another one means that the box was restarted
	Disk   Disk   // zero: the real one
}

// Disk is what a Keeper does with files; each is one step for a crash.
type Disk struct {
	Replace func(path string, data []byte, mode os.FileMode) error
	Remove  func(path string) error // durable; no error when there is none
}

// Keeper holds the revisions.
type Keeper struct {
	o      Options
	wake   chan struct{} // Run looks at the deadline again
	mu     sync.Mutex
	moving bool // somebody changes the configuration; the others are refused
	index  index

	candidates candidates
}

// New makes a Keeper; Start must come before all else.
func New(o Options) *Keeper {
	if o.Disk.Replace == nil {
		o.Disk = Disk{Replace: files.Replace, Remove: remove}
	}
	return &Keeper{o: o, wake: make(chan struct{}, 1), candidates: candidates{dir: filepath.Join(o.State, "candidates")}}
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return files.SyncFolder(filepath.Dir(path))
}

// Start settles what a crash or a restart of the box left, before anything reads
// the file: a commit that was broken off, or that waits for a confirmation from
// before the restart, is taken back. A file edited by hand becomes a revision.
func (k *Keeper) Start(ctx context.Context) error {
	if err := os.MkdirAll(k.o.State, 0o700); err != nil {
		return err
	}
	x, err := readIndex(k.path())
	if err != nil {
		return err
	}
	k.index = x
	if m := x.Move; m != nil && m.over(k.o.BootID, k.o.Now()) {
		if _, _, err := k.takeBack(ctx, m.outcome(), nil); err != nil {
			return err
		}
	}
	if err := k.sweep(); err != nil {
		return err
	}
	return k.byHand()
}

// Run takes back what isn't confirmed in time, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
		case <-timer.C:
		}
		timer.Stop()
		if left, waits := k.left(); waits {
			if left > 0 {
				timer.Reset(left)
			} else if k.expire(ctx) != nil {
				timer.Reset(again)
			}
		}
	}
}

// again is when a return that failed is tried again: a disk may be full, or
// another order be under way.
const again = 5 * time.Second

// left is how long the waiting revision may still wait.
func (k *Keeper) left() (left time.Duration, waits bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := k.index.Move
	if m == nil || !m.Done {
		return 0, false
	}
	return m.Deadline.Sub(k.o.Now()), true
}

func (k *Keeper) expire(ctx context.Context) error {
	if err := k.begin(); err != nil {
		return err
	}
	defer k.end()
	if left, waits := k.left(); !waits || left > 0 {
		return nil // confirmed meanwhile
	}
	_, _, err := k.takeBack(context.WithoutCancel(ctx), tookBack, k.o.Apply)
	return err
}

// begin reserves the configuration for the caller.
func (k *Keeper) begin() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.moving {
		return &control.Error{Code: "config-busy"}
	}
	k.moving = true
	return nil
}

func (k *Keeper) end() {
	k.mu.Lock()
	k.moving = false
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *Keeper) path() string { return filepath.Join(k.o.State, "history.json") }

func (k *Keeper) textPath(n int) string {
	return filepath.Join(k.o.State, strconv.Itoa(n)+".toml")
}

// save makes x durable, then the truth.
func (k *Keeper) save(x index) error {
	data, err := x.encode()
	if err != nil {
		return err
	}
	if err := k.o.Disk.Replace(k.path(), data, 0o600); err != nil {
		return err
	}
	k.mu.Lock()
	k.index = x
	k.mu.Unlock()
	return nil
}

// text is a revision's; nil for 0, when there was no configuration.
func (k *Keeper) text(n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	return os.ReadFile(k.textPath(n))
}

// put places text as the file in use; nil removes it.
func (k *Keeper) put(text []byte) error {
	if text == nil {
		return k.o.Disk.Remove(k.o.Config)
	}
	return k.o.Disk.Replace(k.o.Config, text, 0o600)
}

// sweep removes texts that no revision names: a crash left them.
func (k *Keeper) sweep() error {
	entries, err := os.ReadDir(k.o.State)
	if err != nil {
		return err
	}
	for _, e := range entries {
		n, err := strconv.Atoi(trimToml(e.Name()))
		if err != nil || k.index.find(n) != nil {
			continue
		}
		if err := k.o.Disk.Remove(k.textPath(n)); err != nil {
			return err
		}
	}
	return nil
}
