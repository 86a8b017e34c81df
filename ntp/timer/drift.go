package timer

import (
	"komainu/ntp/discipline"
	"komainu/ntp/holdover"
	"komainu/ntp/wall"
)

// Drift is what outlives a run: the oscillator's frequency and how it went. It
// is one JSON file of the time daemon's.
type Drift struct {
	Frequency float64          `json:"frequency_ppm"` // correction, 1e-6
	Error     float64          `json:"error_ppm"`     // one standard deviation
	At        wall.Time        `json:"at_ns"`         // when it was measured
	History   []holdover.Point `json:"history,omitempty"`
}

// Plausible says whether the drift can be of this box's oscillator at all:
// what is not is dropped as a whole.
func (d Drift) Plausible() bool {
	ok := func(ppm float64) bool { return ppm >= -discipline.MaxFrequency && ppm <= discipline.MaxFrequency } // not NaN either
	if !ok(d.Frequency) || !(d.Error > 0 && d.Error <= discipline.MaxFrequency) || len(d.History) > holdover.Slots {
		return false
	}
	for _, p := range d.History {
		if !ok(p.Believed) || !ok(p.Mean) {
			return false
		}
	}
	return true
}
