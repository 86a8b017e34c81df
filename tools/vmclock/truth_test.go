// Package vmclock proves the time daemon as it is built on a real kernel's
// clock: out/komainu in vmtest's guest, following servers whose time is the
// guest's oscillator, with an offset and a rate of its own. What the wall clock
// should show is so known at every moment, whatever anybody does to it. A
// suspend can't be had in the guest; the simulation has it. Start reading at
// truth and newTown.
package vmclock

import (
	"math"
	"sync"
	"testing"
	"time"

	"komainu/drivers/clock"
	"komainu/ntp/wall"
)

// truth is true time as a line over the oscillator's counter.
type truth struct {
	began wall.Reading
	ahead time.Duration // of the wall clock, when it began
	ppm   float64       // how much faster than the oscillator it runs
	leap  wall.Time     // midnight before which a second is inserted; 0: none
}

// line is the true time of a world without leap seconds.
func (u truth) line(raw wall.Raw) wall.Time {
	d := raw.Sub(u.began.Raw)
	return u.began.Wall.Add(u.ahead + d + time.Duration(math.Round(float64(d)*u.ppm/1e6)))
}

// at is the true time when the counter shows raw. The inserted second counts
// like the one before it, as the kernel does.
func (u truth) at(raw wall.Raw) wall.Time {
	now := u.line(raw)
	if u.leap != 0 && now >= u.leap {
		now = now.Add(-time.Second)
	}
	return now
}

// moment is what the counter shows when the line comes to t.
func (u truth) moment(t wall.Time) wall.Raw {
	return u.began.Raw + wall.Raw(float64(t.Sub(u.began.Wall)-u.ahead)/(1+u.ppm/1e6))
}

// announced says whether the inserted second isn't over yet.
func (u truth) announced(raw wall.Raw) bool {
	return u.leap != 0 && u.line(raw) < u.leap.Add(time.Second)
}

// error is how far the wall clock is ahead of the truth.
func (u truth) error(r wall.Reading) time.Duration { return r.Wall.Sub(u.at(r.Raw)) }

// record is what the wall clock showed, all the time.
type record struct {
	truth truth
	mu    sync.Mutex
	seen  []wall.Reading
}

// recordEvery is the time between two looks at the clock.
const recordEvery = 4 * time.Millisecond

// watch records the wall clock until the test ends.
func watch(t *testing.T, u truth) *record {
	r := &record{truth: u}
	end := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(recordEvery)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				now := clock.Read()
				r.mu.Lock()
				r.seen = append(r.seen, now)
				r.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		close(end)
		done.Wait()
	})
	return r
}

// between is what was seen in a stretch of the oscillator.
func (r *record) between(from, to wall.Raw) []wall.Reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []wall.Reading
	for _, s := range r.seen {
		if s.Raw >= from && s.Raw <= to {
			out = append(out, s)
		}
	}
	return out
}

// jump is a step of the wall clock.
type jump struct {
	at wall.Raw
	by time.Duration
}

// jumps are the steps, down to 2 ms: between two looks no slew moves as much.
func (r *record) jumps(from, to wall.Raw) []jump {
	var out []jump
	seen := r.between(from, to)
	for i := 1; i < len(seen); i++ {
		took := seen[i].Raw.Sub(seen[i-1].Raw)
		if by := seen[i].Wall.Sub(seen[i-1].Wall) - took; by.Abs() > 2*time.Millisecond+took/10 {
			out = append(out, jump{seen[i].Raw, by})
		}
	}
	return out
}

// worst is the largest error, and the root of the mean square of all.
func (r *record) worst(from, to wall.Raw) (largest, rms time.Duration) {
	var sum float64
	seen := r.between(from, to)
	for _, s := range seen {
		off := r.truth.error(s)
		largest = max(largest, off.Abs())
		sum += float64(off) * float64(off)
	}
	return largest, time.Duration(math.Sqrt(sum / float64(max(len(seen), 1))))
}

// wrong is for how long the clock was wrong by more than limit, all together.
func (r *record) wrong(from, to wall.Raw, limit time.Duration) (d time.Duration) {
	seen := r.between(from, to)
	for i := 1; i < len(seen); i++ {
		if r.truth.error(seen[i]).Abs() > limit {
			d += seen[i].Raw.Sub(seen[i-1].Raw)
		}
	}
	return d
}
