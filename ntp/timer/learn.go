package timer

import (
	"slices"
	"time"

	"komainu/ntp/holdover"
	"komainu/ntp/instant"
	"komainu/ntp/wall"
)

// slot is the stretch of the oscillator that is being learned.
type slot struct {
	open     bool
	at       instant.Instant
	raw      wall.Raw
	ahead    float64 // s: true time less the oscillator's counter, at the beginning
	believed float64 // 1e-6
}

// teachable is how well the frequency must be known before anything is learned
// of its changes, s/s: what was not known isn't a change.
const teachable = 2e-7

// learn remembers how the oscillator went while the truth was known.
func (t *Timer) learn() {
	if t.mode != Synchronised {
		t.slot = slot{}
		return
	}
	if t.slot.open && t.now.Boot.Sub(t.slot.at) >= holdover.Slot {
		mean := (t.ahead() - t.slot.ahead) / t.now.Raw.Sub(t.slot.raw).Seconds() * 1e6
		t.history.Add(holdover.Point{Believed: t.slot.believed, Mean: mean})
		t.slot = slot{}
	}
	if !t.slot.open && t.truth.RateVar < teachable*teachable {
		t.slot = slot{open: true, at: t.now.Boot, raw: t.now.Raw, ahead: t.ahead(), believed: t.truth.Rate * 1e6}
	}
	if t.now.Boot.Sub(t.savedAt) >= saveEvery {
		t.save()
	}
}

func (t *Timer) ahead() float64 {
	return time.Duration(int64(t.truth.TimeAt(t.now.Raw)) - int64(t.now.Raw)).Seconds()
}

// save writes what the next run can use.
func (t *Timer) save() {
	if !t.truth.known {
		return
	}
	t.savedAt = t.now.Boot
	d := Drift{Frequency: t.truth.Rate * 1e6, Error: max(sqrt(t.truth.RateVar)*1e6, 1e-4), At: t.now.Wall, History: slices.Clone(t.history.Points)} // written later, beside us
	if d.Plausible() {
		t.do(Save{d})
	}
}
