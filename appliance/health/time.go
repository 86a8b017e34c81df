package health

import (
	"maps"
	"math/bits"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"komainu/appliance/control"
)

// Names of states; a state's number is its place.
const (
	clockStates  = "starting synchronised holdover orphan unsynchronised panic" // control.TimeStatus
	sourceStates = "unresolved silent unusable distant falseticker usable combined followed"
)

// TimeMetrics are the time daemon's metrics, for Serve. last gives its newest
// status, nil when it doesn't answer; it is called with every scrape, from any
// goroutine.
func TimeMetrics(site string, last func() *control.TimeStatus) prometheus.Collector {
	return timing{site, last}
}

type timing struct {
	site string
	last func() *control.TimeStatus
}

// Describe sends nothing: which metrics there are depends on the status.
func (timing) Describe(chan<- *prometheus.Desc) {}

// Collect sends the metrics of the newest status.
func (c timing) Collect(ch chan<- prometheus.Metric) {
	o, t := out{ch, c.site}, c.last()
	o.gauge("time_answers_state", "1 when the time daemon answers, else 0 and nothing else is told", flag(t != nil))
	if t == nil {
		return
	}
	o.clock(t)
	o.timeServed(t)
	named := map[string]int{}
	for _, s := range t.Sources {
		named[s.Name]++
	}
	for i, s := range t.Sources {
		peer := s.Name
		if named[peer] > 1 { // of a pool
			peer += " " + s.Address
		}
		if slices.ContainsFunc(t.Sources[:i], func(b control.TimeSource) bool { return b.Name == s.Name && b.Address == s.Address }) {
			continue // a series that stands twice would spoil the whole answer
		}
		o.timeSource(s, "peer", peer)
	}
}

func (o out) clock(t *control.TimeStatus) {
	o.gauge("time_uptime_seconds", "time since the time daemon's start", t.UptimeS)
	o.gauge("time_discipline_state", "of the clock: "+list(clockStates), number(clockStates, t.State))
	o.gauge("time_discipline_age_seconds", "time in this state", t.SinceS)
	o.gauge("time_stratum_number", "told to clients; 16 when not synchronised", float64(t.Stratum))
	o.gauge("time_leap_state", "told to clients, RFC 5905: none 0, 61 s 1, 59 s 2, not synchronised 3", float64(t.Leap))
	o.gauge("time_offset_seconds", "estimated error of the clock, positive when it must go forward", t.OffsetS)
	o.gauge("time_frequency_ratio", "frequency correction that the kernel applies", t.FrequencyPPM/1e6)
	o.gauge("time_frequency_error_ratio", "standard deviation of the frequency", t.FrequencyErrPPM/1e6)
	o.gauge("time_root_delay_seconds", "round trip to the primary reference", t.RootDelayS)
	o.gauge("time_root_dispersion_seconds", "root dispersion", t.RootDispersionS)
	if t.BoundS >= 0 {
		o.gauge("time_bound_seconds", "root distance: true time is no farther from the clock; absent when not known", t.BoundS)
	}
	if t.CorrectedAgoS >= 0 {
		o.gauge("time_correction_age_seconds", "age of the last correction", t.CorrectedAgoS)
	}
	h := t.Holdover
	if h == nil {
		h = &control.Holdover{}
	}
	o.gauge("time_holdover_age_seconds", "time without a source; 0 when there is one", h.ForS)
	o.gauge("time_holdover_bound_seconds", "root distance in holdover; 0 when there is a source", h.BoundS)
	o.gauge("time_holdover_limit_seconds", "bound that holdover must not exceed; 0 when there is a source", h.LimitS)
	if !h.LimitAt.IsZero() {
		o.gauge("time_holdover_left_seconds", "time until holdover reaches its limit", h.LimitAt.Sub(t.Time).Seconds())
	}
	o.gauge("time_virtual_state", "1 on a virtual machine", flag(t.Virtual != ""))
	o.gauge("time_alarm_number", "alarms of the time daemon that stand", float64(len(t.Alarms)))
	if !t.LeapTable.Expires.IsZero() {
		o.gauge("time_leap_left_seconds", "time until the list of leap seconds expires", t.LeapTable.Expires.Sub(t.Time).Seconds())
	}
}

// timeServed is the server's side; kinds and reasons are few and fixed, and
// each has a metric of its own, since no label is meant for them.
func (o out) timeServed(t *control.TimeStatus) {
	o.gauge("time_clients_number", "clients that are remembered", float64(t.Server.Clients))
	o.each("time_requests_", "answered requests of this kind", t.Server.Requests)
	o.each("time_drops_", "requests that got no time for this reason", t.Server.Drops)
	if n := t.NTS; n != nil {
		o.each("time_exchanges_", "NTS key exchanges with this outcome", n.KE)
		o.gauge("time_cookie_age_seconds", "age of the cookie key in use", n.KeyAgeS)
		o.gauge("time_certificate_left_seconds", "time until the certificate for NTS expires", n.Certificate.Sub(t.Time).Seconds())
	}
}

func (o out) each(prefix, help string, counts map[string]uint64) {
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		o.counter(prefix+strings.ReplaceAll(name, "-", "_")+"_total", help, float64(counts[name]))
	}
}

func (o out) timeSource(s control.TimeSource, l ...string) {
	o.gauge("time_source_state", list(sourceStates), number(sourceStates, s.State), l...)
	o.gauge("time_source_reach_ratio", "part of the last eight queries that were answered", float64(bits.OnesCount8(s.Reach))/8, l...)
	o.gauge("time_source_poll_seconds", "pause between queries", s.PollS, l...)
	o.counter("time_source_queries_total", "queries since the start", float64(s.Queries), l...)
	o.counter("time_source_replies_total", "usable replies since the start", float64(s.Replies), l...)
	if s.LastAgeS < 0 {
		return // nothing else is known
	}
	o.gauge("time_source_age_seconds", "age of the last usable reply", s.LastAgeS, l...)
	o.gauge("time_source_offset_seconds", "of our clock from it, positive when ours must go forward", s.OffsetS, l...)
	o.gauge("time_source_jitter_seconds", "root mean square of its offsets", s.JitterS, l...)
	o.gauge("time_source_delay_seconds", "round trip", s.DelayS, l...)
	o.gauge("time_source_distance_seconds", "root distance to true time through it", s.RootDistanceS, l...)
	o.gauge("time_source_stratum_number", "what it says of itself", float64(s.Stratum), l...)
}
