package timer

import "komainu/ntp/wall"

// Drift is what outlives a run: the oscillator's frequency and how it wandered.
// It is one JSON file of the time daemon's.
type Drift struct {
	Frequency float64   `json:"frequency_ppm"` // correction, 1e-6
	Error     float64   `json:"error_ppm"`     // one standard deviation
	At        wall.Time `json:"at_ns"`         // when it was measured
	Wander    []float64 `json:"wander,omitempty"`
}
