// Package nbd serves a file as a disk that loses what a real one may lose: what
// was written but not flushed when the power goes. QEMU speaks to it over a unix
// socket in the NBD protocol (doc/proto.md of the NBD project, "fixed newstyle").
// Start reading at Cache for what a disk promises, at Server for the protocol.
package nbd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
)

// ErrRange is wrapped when a request reaches beyond the disk's end.
var ErrRange = errors.New("beyond the end of the disk")

// Options of a disk.
type Options struct {
	Atom  int   // bytes that are written wholly or not at all, 512 or 4096; 0: 512
	Limit int64 // bytes that may wait for a flush; 0: 32 MiB. The oldest then reach the disk by themselves, as in a real one
}

// Cache is a disk with a volatile write cache: the file holds what is durable, a
// journal in memory the writes since then, oldest first. Its methods may be
// called from several goroutines.
type Cache struct {
	atom  int64
	limit int64
	size  int64

	mu      sync.Mutex
	file    *os.File
	journal []write
	waiting int64 // bytes in journal
	served  uint64
	goal    uint64        // of served
	reached chan struct{} // is closed at goal; nil: nobody waits
}

type write struct {
	off  int64
	data []byte
}

func (w write) end() int64 { return w.off + int64(len(w.data)) }

// Loss is what a power cut did to the writes that nobody had flushed.
type Loss struct {
	Kept, Lost, Torn int // writes
}

// Open serves the file, whose size must be a multiple of 4096 bytes.
func Open(name string, opt Options) (*Cache, error) {
	if opt.Atom == 0 {
		opt.Atom = 512
	}
	if opt.Limit == 0 {
		opt.Limit = 32 << 20
	}
	if opt.Atom != 512 && opt.Atom != 4096 {
		return nil, fmt.Errorf("disk %s: atoms of %d bytes: want 512 or 4096", name, opt.Atom)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open the file of a disk: %w", err)
	}
	info, err := f.Stat()
	if err == nil && (info.Size() == 0 || info.Size()%4096 != 0) {
		err = fmt.Errorf("%d bytes: want a multiple of 4096", info.Size())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("disk %s: %w", name, err), f.Close())
	}
	return &Cache{file: f, size: info.Size(), atom: int64(opt.Atom), limit: opt.Limit}, nil
}

// Size in bytes.
func (c *Cache) Size() int64 { return c.size }

// ReadAt reads what was written last, durable or not.
func (c *Cache) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > c.size {
		return 0, fmt.Errorf("read %d bytes at %d: %w", len(p), off, ErrRange)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count()
	if _, err := c.file.ReadAt(p, off); err != nil {
		return 0, fmt.Errorf("read from the disk's file: %w", err)
	}
	for _, w := range c.journal {
		lo, hi := max(off, w.off), min(off+int64(len(p)), w.end())
		if lo < hi {
			copy(p[lo-off:hi-off], w.data[lo-w.off:hi-w.off])
		}
	}
	return len(p), nil
}

// Write keeps p, which the caller gives away. With fua it is durable when Write
// returns.
func (c *Cache) Write(p []byte, off int64, fua bool) error {
	if off < 0 || off+int64(len(p)) > c.size {
		return fmt.Errorf("write %d bytes at %d: %w", len(p), off, ErrRange)
	}
	if len(p) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count()
	w := write{off, p}
	if fua {
		c.forget(w.off, w.end())
		return c.store(w)
	}
	c.journal = append(c.journal, w)
	c.waiting += int64(len(p))
	for c.waiting > c.limit || len(c.journal) > maxWrites {
		if err := c.retire(len(c.journal)/2 + 1); err != nil {
			return err
		}
	}
	return nil
}

// maxWrites bounds the journal's length, since every read walks through it.
const maxWrites = 8192

// Flush makes all that was written durable.
func (c *Cache) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.retire(len(c.journal))
}

// retire makes the oldest n writes durable.
func (c *Cache) retire(n int) error {
	for _, w := range c.journal[:n] {
		if err := c.store(w); err != nil {
			return err
		}
		c.waiting -= int64(len(w.data))
	}
	rest := copy(c.journal, c.journal[n:])
	clear(c.journal[rest:]) // let the data go
	c.journal = c.journal[:rest]
	return nil
}

// store puts a write into the file. The machine that we run on keeps its power,
// so what the kernel has is durable enough.
func (c *Cache) store(w write) error {
	if _, err := c.file.WriteAt(w.data, w.off); err != nil {
		return fmt.Errorf("write to the disk's file: %w", err)
	}
	return nil
}

// forget takes a range out of the journal, since what is written there now is
// durable and nothing older may come over it.
func (c *Cache) forget(from, to int64) {
	var rest []write
	c.waiting = 0
	keep := func(w write, from, to int64) {
		if from < to {
			rest = append(rest, write{from, w.data[from-w.off : to-w.off]})
			c.waiting += to - from
		}
	}
	for _, w := range c.journal {
		keep(w, w.off, min(w.end(), from))
		keep(w, max(w.off, to), w.end())
	}
	c.journal = rest
}

// After gives a channel that is closed when n more reads and writes have come;
// it takes the place of the one given before.
func (c *Cache) After(n uint64) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goal, c.reached = c.served+n, make(chan struct{})
	out := c.reached
	c.reach()
	return out
}

// Served is how many reads and writes have come.
func (c *Cache) Served() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.served
}

func (c *Cache) count() {
	c.served++
	c.reach()
}

func (c *Cache) reach() {
	if c.reached != nil && c.served >= c.goal {
		close(c.reached)
		c.reached = nil
	}
}

// Waiting says how many writes a power cut may lose.
func (c *Cache) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.journal)
}

// Cut is what a power cut does: of the writes since the last Flush some reach
// the disk, in any order, some do not, some only with a part of their atoms. The
// seed decides. The file then is what the disk holds; the journal is empty.
func (c *Cache) Cut(seed uint64) (Loss, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rng := rand.New(rand.NewPCG(seed, 0x636b7574))
	// Some disks lose nearly all of their cache, others nearly nothing.
	keep := []float64{0, 0.2, 0.5, 0.8, 1}[rng.IntN(5)]
	tear := []float64{0, 0.1, 0.5}[rng.IntN(3)]
	var loss Loss
	for _, i := range rng.Perm(len(c.journal)) {
		w := c.journal[i]
		part := 1.0 // chance of an atom to be there
		switch {
		case rng.Float64() < tear:
			part = 0.5
			loss.Torn++
		case rng.Float64() < keep:
			loss.Kept++
		default:
			loss.Lost++
			continue
		}
		for off := w.off; off < w.end(); {
			next := min(off-off%c.atom+c.atom, w.end())
			if part == 1 || rng.Float64() < part {
				if err := c.store(write{off, w.data[off-w.off : next-w.off]}); err != nil {
					return loss, err
				}
			}
			off = next
		}
	}
	c.journal, c.waiting = nil, 0
	return loss, nil
}

// Close makes everything durable and closes the file.
func (c *Cache) Close() error {
	return errors.Join(c.Flush(), c.file.Close())
}
