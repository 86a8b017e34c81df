package update

import (
	"context"
	"fmt"
	"slices"
	"time"

	"komainu/appliance/control"
	"komainu/images/esp"
	"komainu/images/trial"
)

// look is the pause between two looks at a trial.
const look = 3 * time.Second

// Run watches over a trial until it is over or ctx ends; it returns at once
// when the running image isn't on trial. An image that is given up ends in
// Config.Restart.
func (b *Box) Run(ctx context.Context) error {
	if !b.OnTrial() {
		return nil
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.over:
			return nil
		case <-tick.C:
		}
		d, ok := b.step(b.c.World.evidence(ctx))
		if !ok || ctx.Err() != nil {
			continue
		}
		var err error
		switch d.Verdict {
		case trial.Accept:
			err = b.accept()
		case trial.Revert:
			err = b.revert(control.Reason(d.Reason))
		case trial.Wait:
			continue
		}
		if err == nil {
			return nil
		}
		// The next look decides again: the partition may be writable by then.
		b.c.Log.Error("the end of the trial can't be written", "verdict", d.Verdict.String(), "err", err)
	}
}

// step judges; false when the trial ended by an order meanwhile.
func (b *Box) step(e trial.Evidence) (trial.Decision, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.trial == nil || b.trial.ended {
		return trial.Decision{}, false
	}
	d := b.trial.core.Step(now(), e)
	if fmt.Sprint(d.Waiting) != fmt.Sprint(b.trial.last.Waiting) {
		b.c.Log.Info("trial of a new image", "waiting", fmt.Sprint(d.Waiting), "left", d.Left)
	}
	b.trial.last = d
	return d, true
}

// accept keeps the running image for good.
func (b *Box) accept() error {
	b.mu.Lock()
	running := b.running
	b.mu.Unlock()
	return b.writing(func() error {
		as, err := esp.Accept(b.c.Root, running)
		if err != nil {
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.running = as
		b.end()
		delete(b.state.Failed, as.Version)
		if b.state.NextFloor.Compare(b.state.Floor) > 0 {
			b.state.Floor = b.state.NextFloor
		}
		b.c.Log.Info("the new image is accepted", "version", as.Version)
		return b.state.write(b.c.State)
	})
}

// revert records why the running image is given up, makes the loader leave it
// alone and restarts the box. The record comes first: it must survive. On trial,
// the box is restarted even if nothing can be written: the image's tries run
// out. An accepted image whose file can't be renamed would only start again:
// that is an error. Where there is nothing to go back to, the image stays.
func (b *Box) revert(why control.Reason) error {
	b.mu.Lock()
	running := b.running
	b.state.Failed[running.Version] = Failed{why, b.c.Wall()}
	b.end()
	err := b.state.write(b.c.State)
	b.mu.Unlock()
	if err != nil {
		b.c.Log.Error("why the image is given up can't be recorded", "err", err)
	}
	all, err := esp.List(b.c.Root)
	if err == nil && !slices.ContainsFunc(all, func(i esp.Image) bool { return !i.Counted && i.Name() != running.Name() }) {
		b.c.Log.Error("the new image fails, and there is no other to go back to: it stays", "reason", why.Code, "args", why.Args)
		return nil
	}
	err = b.writing(func() error {
		as, err := esp.Fail(b.c.Root, running)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.running = as
		return err
	})
	if err != nil && !running.Counted {
		return err
	}
	if err != nil {
		b.c.Log.Error("the image can't be marked as failed: its tries must run out", "err", err)
	}
	b.c.Log.Warn("the new image is given up", "version", running.Version, "reason", why.Code, "args", why.Args)
	b.c.Restart("trial", why)
	return nil
}

// end closes the trial; b.mu is held.
func (b *Box) end() {
	if b.trial != nil && !b.trial.ended {
		b.trial.ended = true
		close(b.over)
	}
}
