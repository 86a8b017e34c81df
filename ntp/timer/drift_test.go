package timer_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"komainu/ntp/holdover"
	"komainu/ntp/timer"
)

func TestPlausible(t *testing.T) {
	good := timer.Drift{Frequency: -12, Error: 0.1, At: noon, History: make([]holdover.Point, holdover.Slots)}
	if !good.Plausible() {
		t.Error("a good drift isn't plausible")
	}
	for name, spoil := range map[string]func(*timer.Drift){
		"frequency is NaN": func(d *timer.Drift) { d.Frequency = math.NaN() },
		"too fast":         func(d *timer.Drift) { d.Frequency = 500.1 },
		"too slow":         func(d *timer.Drift) { d.Frequency = -500.1 },
		"no error":         func(d *timer.Drift) { d.Error = 0 },
		"negative error":   func(d *timer.Drift) { d.Error = -1 },
		"error is NaN":     func(d *timer.Drift) { d.Error = math.NaN() },
		"endless error":    func(d *timer.Drift) { d.Error = math.Inf(1) },
		"history is NaN":   func(d *timer.Drift) { d.History[3].Mean = math.NaN() },
		"absurd history":   func(d *timer.Drift) { d.History[3].Believed = 1e9 },
		"endless history":  func(d *timer.Drift) { d.History = append(d.History, holdover.Point{}) },
	} {
		d := good
		d.History = slices.Clone(good.History)
		spoil(&d)
		if d.Plausible() {
			t.Errorf("%s: plausible", name)
		}
	}
}

// TestSavedDriftIsItsOwn: what is to be written doesn't change while the timer
// learns on, and a new run takes it as it is.
func TestSavedDriftIsItsOwn(t *testing.T) {
	w := newWorld(t)
	w.brief = true
	w.serve(a1, 0)
	b := w.box("box", spec(a1), 0, 7)
	full := make([]holdover.Point, holdover.Slots)
	for i := range full {
		full[i] = holdover.Point{Believed: float64(i), Mean: float64(i)}
	}
	b.start(timer.Drift{Frequency: -7, Error: 0.01, At: noon, History: full})
	w.run(2 * time.Hour)
	saved := b.drift
	before := slices.Clone(saved.History)
	w.run(2 * time.Hour)
	if len(before) != holdover.Slots || !slices.Equal(saved.History, before) {
		t.Error("a drift that is being written changed")
	}
	if math.Abs(saved.Frequency+7) > 0.1 || saved.Error <= 0 || !saved.Plausible() {
		t.Errorf("saved %+.3f ± %.3f ppm", saved.Frequency, saved.Error)
	}
}
