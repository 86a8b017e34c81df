package accounts

import (
	"errors"
	"sync/atomic"
	"time"
)

// diskMost is how long a person waits for the disk.
const diskMost = 5 * time.Second

// ErrDisk says that the data disk hangs.
var ErrDisk = errors.New("the data disk doesn't answer")

// Disk does file work that a console must not hang on, one after the other.
type Disk struct {
	busy chan struct{} // 1
	hung atomic.Bool   // somebody gave up what is still at work
}

// NewDisk makes a Disk.
func NewDisk() *Disk { return &Disk{busy: make(chan struct{}, 1)} }

// OnDisk runs f and gives its results, or ErrDisk when it takes too long or
// when earlier work still hangs; f then goes on alone and ends with the process.
func OnDisk[T any](d *Disk, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var none T
	if d.hung.Load() {
		return none, ErrDisk
	}
	late := time.NewTimer(diskMost)
	defer late.Stop()
	select {
	case d.busy <- struct{}{}:
	case <-late.C:
		return none, ErrDisk
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
		d.hung.Store(false)
		<-d.busy
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-late.C:
		d.hung.Store(true)
		return none, ErrDisk
	}
}

// Write is OnDisk for work without a result.
func (d *Disk) Write(f func() error) error {
	_, err := OnDisk(d, func() (struct{}, error) { return struct{}{}, f() })
	return err
}
