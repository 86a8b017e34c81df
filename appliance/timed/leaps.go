package timed

import (
	"context"
	"os"
	"time"

	"komainu/drivers/clock"
	"komainu/ntp/leap"
	"komainu/ntp/timer"
)

// leapEvery is how often the list of leap seconds is looked at again.
const leapEvery = time.Hour

// readLeaps gives the core the list of leap seconds, and again when the file
// was replaced. A bad file is told once; the table that was good stays.
func (d *Daemon) readLeaps(ctx context.Context) error {
	if d.cfg.LeapFile == "" {
		return nil
	}
	tick := time.NewTicker(leapEvery)
	defer tick.Stop()
	for seen := (time.Time{}); ; {
		if at, err := modified(d.cfg.LeapFile); err != nil || !at.Equal(seen) {
			if err == nil {
				seen = at
				err = d.readLeap(ctx)
			}
			if err != nil {
				d.note("note-time-leap-file", err.Error())
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func modified(path string) (time.Time, error) {
	st, err := os.Stat(path)
	if err != nil {
		return time.Time{}, err
	}
	return st.ModTime(), nil
}

func (d *Daemon) readLeap(ctx context.Context) error {
	text, err := os.ReadFile(d.cfg.LeapFile)
	if err != nil {
		return err
	}
	table, err := leap.Parse(text)
	if err != nil {
		return err
	}
	d.tell(ctx, timer.LeapTable{Table: table})
	return nil
}

// watchSet has the core look at the clocks as soon as somebody set one.
func (d *Daemon) watchSet(ctx context.Context) error {
	w, err := clock.NewWatch()
	if err != nil {
		return err
	}
	defer w.Close() // nothing depends on it any more
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.C():
			d.tell(ctx, timer.Tick{})
		}
	}
}
