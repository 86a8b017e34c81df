package timed

import (
	"context"
	"errors"
	"fmt"

	"komainu/drivers/clock"
	"komainu/drivers/files"
	"komainu/ntp/timer"
)

// disk writes beside the loop, one thing after the other: a disk that is slow,
// full or gone must not stop the clock.
type disk struct{ queue chan func() error }

// diskQueue bounds what waits for a slow disk; what comes on top is dropped.
const diskQueue = 256

// put queues a write. It never blocks; false: the queue is full.
func (d *disk) put(write func() error) bool {
	select {
	case d.queue <- write:
		return true
	default:
		return false
	}
}

// run writes until ctx ends and what was queued by then is written. wrote is
// told how each write ended.
func (d *disk) run(ctx context.Context, wrote func(error)) {
	do := func(write func() error) { wrote(write()) }
	for {
		select {
		case write := <-d.queue:
			do(write)
		case <-ctx.Done():
			for {
				select {
				case write := <-d.queue:
					do(write)
				default:
					return
				}
			}
		}
	}
}

// setHardware sets the hardware clock after a step, beside the loop. In between
// the kernel does, every 11 minutes (timer.SetSync), so a failure is logged and
// no more; a box without one needs nothing.
func (d *Daemon) setHardware() {
	d.group.Go(func() error {
		if err := clock.SetRTC(clock.RTCDevice, clock.Read().Wall); err != nil && !errors.Is(err, clock.ErrNoRTC) {
			d.cfg.Log.Error("hardware clock", "error", err)
		}
		return nil
	})
}

// saveDrift keeps what the next run can use.
func (d *Daemon) saveDrift(drift timer.Drift) error {
	ok := d.disk.put(func() error { return files.ReplaceJSON(d.path(driftFile), driftVersion, drift) })
	if !ok {
		return fmt.Errorf("keep the drift: the disk is %d writes behind", diskQueue)
	}
	return nil
}
