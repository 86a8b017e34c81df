package lab

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"komainu/drivers/netns"
)

// Registry is where living labs say that they live: one file ID.json each,
// locked with flock for as long as the lab's process lives. A file that can be
// locked belongs to a dead lab.
const Registry = "/run/komainu-lab"

// prefix starts the name of every namespace of ours.
const prefix = "komainu-"

// owner is what a lab's file in Registry says. The lock decides; the process
// id and its start time (clock ticks since boot) are for people.
type owner struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
	Dir   string `json:"dir"`
	Keep  bool   `json:"keep"`
}

// register clears what dead labs left and enters a new lab. The file that it
// returns holds the lock.
func register(ctx context.Context, opt Options) (owner, *os.File, error) {
	if err := os.MkdirAll(Registry, 0o755); err != nil {
		return owner{}, nil, fmt.Errorf("make the registry of labs: %w", err)
	}
	// One at a time: between the making of a file and its lock another start
	// would take it for a dead lab's.
	gate, err := os.OpenFile(filepath.Join(Registry, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return owner{}, nil, fmt.Errorf("open the registry of labs: %w", err)
	}
	defer gate.Close()
	if err := unix.Flock(int(gate.Fd()), unix.LOCK_EX); err != nil {
		return owner{}, nil, fmt.Errorf("lock the registry of labs: %w", err)
	}
	if err := clearDead(ctx); err != nil {
		return owner{}, nil, err
	}
	_, _, start, err := stat(os.Getpid())
	if err != nil {
		return owner{}, nil, fmt.Errorf("read our own start time: %w", err)
	}
	own := owner{Name: opt.Name, PID: os.Getpid(), Start: start, Keep: opt.Keep}
	for {
		own.ID = strings.ToLower(rand.Text()[:5])
		own.Dir = filepath.Join(opt.Dir, own.ID)
		f, err := os.OpenFile(filepath.Join(Registry, own.ID+".json"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return owner{}, nil, fmt.Errorf("enter lab %s: %w", own.ID, err)
		}
		if err := errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_EX), json.NewEncoder(f).Encode(own)); err != nil {
			return owner{}, nil, errors.Join(fmt.Errorf("enter lab %s: %w", own.ID, err), f.Close())
		}
		return own, f, nil
	}
}

// clearDead clears every lab whose process is gone. The caller holds the gate.
func clearDead(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(Registry, "*.json"))
	if err != nil {
		return fmt.Errorf("list labs: %w", err)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // closed meanwhile
		}
		if err != nil {
			return fmt.Errorf("look at lab %s: %w", name, err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			continue // alive
		}
		if err == nil {
			var own owner
			// A file without a whole sentence is that of a lab which died
			// before it made anything.
			if json.NewDecoder(f).Decode(&own) == nil {
				err = clear(ctx, own)
			}
			if err == nil {
				err = remove(name)
			}
		}
		f.Close()
		if err != nil {
			return fmt.Errorf("clear what the dead lab in %s left: %w", name, err)
		}
	}
	return nil
}

// clear ends and removes all that belongs to the lab own, and nothing else.
func clear(ctx context.Context, own owner) error {
	if own.ID == "" || filepath.Base(own.Dir) != own.ID || !filepath.IsAbs(own.Dir) {
		return fmt.Errorf("lab %q with folder %q: refusing to clear; remove the file if you know that nothing is left", own.ID, own.Dir)
	}
	spaces, err := filepath.Glob(filepath.Join(netns.Dir, prefix+own.ID+"-*"))
	if err != nil {
		return fmt.Errorf("list network namespaces: %w", err)
	}
	var errs []error
	for _, p := range spaces {
		ns := filepath.Base(p)
		errs = append(errs, killInside(ctx, ns), netns.Delete(ns))
	}
	mounts, err := mountsBelow(own.Dir)
	errs = append(errs, err)
	for _, m := range mounts {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err // the folder stays while something may still write there
	}
	if own.Keep {
		return nil
	}
	if err := os.RemoveAll(own.Dir); err != nil {
		return fmt.Errorf("remove the lab's folder: %w", err)
	}
	return nil
}

// mountsBelow lists the mount points in dir, the innermost first.
func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer f.Close()
	var out []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if w := strings.Fields(s.Text()); len(w) > 4 && strings.HasPrefix(w[4], dir+"/") {
			out = append(out, w[4])
		}
	}
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) })
	return out, nil
}

// remove deletes a file that may be gone.
func remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
