package serial

import (
	"errors"
	"time"
)

// diskMost is how long a person waits for the disk.
const diskMost = 5 * time.Second

var errDisk = errors.New("the data disk doesn't answer")

// disk does file work that the console must not hang on.
type disk struct{ busy chan struct{} } // 1

func newDisk() *disk { return &disk{make(chan struct{}, 1)} }

// onDisk runs f and gives its results, or errDisk when it takes too long or
// when earlier work still hangs; f then goes on alone and ends with the process.
func onDisk[T any](d *disk, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var none T
	select {
	case d.busy <- struct{}{}:
	default:
		return none, errDisk // one caller only: what it gave up hangs still
	}
	late := time.NewTimer(diskMost)
	defer late.Stop()
	done := make(chan result, 1)
	go func() {
		v, err := f()
		<-d.busy
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-late.C:
		return none, errDisk
	}
}

// write is onDisk for work without a result.
func (d *disk) write(f func() error) error {
	_, err := onDisk(d, func() (struct{}, error) { return struct{}{}, f() })
	return err
}
