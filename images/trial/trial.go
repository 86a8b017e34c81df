// Package trial decides whether a new image stays: what worked under the old
// one must work again under the new one, but for what depends on something
// outside the box that isn't there now. It decides from values, does nothing
// and reads no clock. Start reading at Trial.Step.
//
// An image that is given up costs a restart; one that is kept although its
// network is broken costs a journey. A cable that is unplugged, or a data centre
// that is down, during an update is common and says nothing about the image.
// What can be told apart, and what follows:
//
//	seen now                                      then
//	port isn't there, has no driver or is off     the image's fault
//	port is on without carrier, another has one   unplugged: excused, and so are the paths over it
//	no port has carrier                           can't be told: wait up to Blind, nobody is served meanwhile; then back
//	path down, its port has carrier, the gateway
//	answers                                       the far end or the line: excused
//	path down, its port has carrier, the gateway
//	is silent too                                 the image's fault
//	data centre or time not usable, a path excused,
//	or the fault lies in the data centre          excused
//	no time source answers, something else does   excused
//	agent, console, charon, database, time daemon the image's fault
//
// With an excuse the image gets the whole Limit to do without it, since an
// excuse may hide a fault. What no time heals isn't waited for (Trial.hopeless): a
// port without a driver after Probing, an agent that has ended Deaths times and
// never answered.
package trial

import (
	"time"

	"komainu/ntp/instant"
)

// Bounds of a trial.
const (
	Limit  = 5 * time.Minute  // by then everything works again
	Settle = 30 * time.Second // nothing is accepted before: a service may start well and die
	Steady = 20 * time.Second // everything has worked without a break for so long
	Blind  = time.Hour        // without carrier on any port

	// Probing is how long the kernel may take to drive a port: discovery of all
	// devices is over before the trial begins, firmware of cards takes seconds.
	Probing = time.Minute
	// Deaths of an agent that has never answered, within Settle at least.
	Deaths = 6
)

// Reason is a code of appliance/say with its arguments.
type Reason struct {
	Code string   `json:"code"`
	Args []string `json:"args,omitempty"`
}

// Baseline is what worked under the old image; false and absent things are
// asked of nobody.
type Baseline struct {
	Agent, Charon      bool     // the agent answers; charon runs
	TimeDaemon, Synced bool     // it answers; the clock follows a source
	DataCentre         bool     // usable
	Ports              []string // with carrier, by PCI path where there is one
	Paths              []string // up
	Ready, Streaming   []string // databases that would serve reads; that follow the primary
}

// Evidence is what is seen now.
type Evidence struct {
	Console            bool // answers; asked of every image
	Agent, Charon      bool
	AgentEnds          int // how often it has ended by itself since the start
	TimeDaemon, Synced bool
	TimeSilent         bool // no time source has answered
	DataCentre         bool
	Outside            bool // the agent's verdict places the fault in the data centre, not in line or box
	Ports              map[string]Port
	Paths              map[string]Path
	Ready, Streaming   map[string]bool
}

// Port is one Ethernet port that the kernel drives; others are left out.
type Port struct {
	On      bool // administratively up
	Carrier bool
}

// Path is one way to a peer.
type Path struct {
	Up      bool
	Ports   []string // that it runs over; of a bond, all of them
	Gateway bool     // its next hop answers (ARP, neighbour discovery), or it needs none
}

// Verdict is what becomes of the image.
type Verdict uint8

// The verdicts.
const (
	Wait Verdict = iota
	Accept
	Revert
)

var verdictNames = [...]string{"wait", "accept", "revert"}

func (v Verdict) String() string { return verdictNames[v] }

// Decision is what Step found.
type Decision struct {
	Verdict Verdict
	Left    time.Duration // until Revert, if nothing changes
	Waiting []Reason      // what worked before and doesn't
	Excused []Reason      // likewise, and the image can't be blamed
	Reason  Reason        // of Revert: what can't come any more, else the first of Waiting
}

// Trial is one trial boot.
type Trial struct {
	base     Baseline
	began    instant.Instant
	deadline instant.Instant
	blind    bool            // at the last step, no port had carrier
	whole    bool            // at the last step, nothing was missing
	since    instant.Instant // of whole
	answered bool            // the agent has, at some step
	driven   map[string]bool // ports that were, at some step
}

// New begins a trial at now; it was booted a moment ago.
func New(base Baseline, now instant.Instant) *Trial {
	return &Trial{base: base, began: now, deadline: now.Add(Limit), driven: map[string]bool{}}
}

// Step judges what is seen at now; now never goes back. It is to be called
// every few seconds: what fails and works again between two steps isn't seen.
// After Accept or Revert the trial is over.
func (t *Trial) Step(now instant.Instant, e Evidence) Decision {
	d := t.judge(e)
	why, hopeless := t.hopeless(now, e)
	blind := t.dark(e)
	if t.blind && !blind {
		// A cable is back: the network gets the time that it would have had.
		t.deadline = max(t.deadline, min(now.Add(Limit), t.began.Add(Blind+Limit)))
	}
	t.blind = blind
	switch whole := len(d.Waiting) == 0; {
	case whole && !t.whole:
		t.whole, t.since = true, now
	case !whole:
		t.whole = false
	}
	end := t.deadline
	if blind && onlyCarrier(d.Waiting) {
		end = max(end, t.began.Add(Blind))
	}
	if t.whole {
		end = max(end, t.since.Add(Steady)) // it came back late
	}
	steady := t.whole && now >= t.since.Add(Steady) && now >= t.began.Add(Settle)
	switch {
	case steady && (len(d.Excused) == 0 || now >= t.deadline):
		d.Verdict = Accept
	case hopeless:
		d.Verdict, d.Reason = Revert, why
	case !t.whole && now >= end:
		d.Verdict, d.Reason = Revert, d.Waiting[0]
	default:
		d.Left = max(0, end.Sub(now))
	}
	return d
}

// hopeless: something that worked before can't come any more.
func (t *Trial) hopeless(now instant.Instant, e Evidence) (Reason, bool) {
	t.answered = t.answered || e.Agent
	for name := range e.Ports {
		t.driven[name] = true
	}
	if t.base.Agent && !t.answered && e.AgentEnds >= Deaths && now >= t.began.Add(Settle) {
		return Reason{Code: "trial-agent"}, true
	}
	for _, name := range t.base.Ports {
		if !t.driven[name] && now >= t.began.Add(Probing) {
			return Reason{"trial-port-gone", []string{name}}, true
		}
	}
	return Reason{}, false
}

// dark: ports that had carrier are driven and on, and none has it.
func (t *Trial) dark(e Evidence) bool {
	for _, name := range t.base.Ports {
		if p, ok := e.Ports[name]; !ok || !p.On || p.Carrier {
			return false
		}
	}
	return len(t.base.Ports) > 0
}

// onlyCarrier: nothing else is missing than what a cable brings.
func onlyCarrier(waiting []Reason) bool {
	for _, r := range waiting {
		if r.Code != "trial-dark" {
			return false
		}
	}
	return true
}
