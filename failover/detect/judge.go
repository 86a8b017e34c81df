package detect

import (
	"time"

	"komainu/failover/standby"
	"komainu/ntp/instant"
)

// Place is where a fault lies.
type Place uint8

// The places.
const (
	NoFault   Place = iota
	Line            // between the box and the data centre
	DCEdge          // the data centre's edge box, or all behind it
	DCService       // a database or service in the data centre
	OwnLAN          // the clients' side of this box
	OwnBox          // this box itself
)

var placeNames = [...]string{"none", "line", "dc-edge", "dc-service", "own-lan", "own-box"}

func (p Place) String() string { return placeNames[p] }

// Reason codes of a verdict. In brackets: the arguments.
const (
	ReasonUsable         = "verdict.usable"           // []
	ReasonLineLost       = "verdict.line-lost"        // [names of the lost paths, the others carry]
	ReasonProbesOnly     = "verdict.probes-only"      // [] every path is taken down on purpose, the probes pass
	ReasonBoot           = "verdict.boot"             // [] just started, nothing heard yet
	ReasonNeverHeard     = "verdict.never-heard"      // [path names] no heartbeat since the start, yet the probes pass
	ReasonNoAnswer       = "verdict.no-answer"        // [path names]
	ReasonNoCarrier      = "verdict.no-carrier"       // [path names]
	ReasonProbeFailed    = "verdict.probe-failed"     // [service]
	ReasonProbesPending  = "verdict.probes-pending"   // [service] not enough good probes in a row yet
	ReasonHostSilent     = "verdict.db-host-silent"   // [database]
	ReasonHostUnknown    = "verdict.db-host-unknown"  // [database] the host can't tell, or hasn't reported yet
	ReasonPrimaryDown    = "verdict.primary-down"     // [database, role]
	ReasonPrimaryFenced  = "verdict.primary-fenced"   // [database]
	ReasonOwnLAN         = "verdict.own-lan"          // []
	ReasonOwnBoxStalled  = "verdict.own-box-stalled"  // []
	ReasonNothingToJudge = "verdict.nothing-to-judge" // [] a group without paths, probes and databases
)

// ProbeCount counts the probes of one service that ended alike in a row.
type ProbeCount struct{ Fails, OKs int }

// Add counts one more probe.
func (c *ProbeCount) Add(ok bool) {
	if ok {
		*c = ProbeCount{OKs: c.OKs + 1}
	} else {
		*c = ProbeCount{Fails: c.Fails + 1}
	}
}

// PathEvidence is what is known of one path to the data centre.
type PathEvidence struct {
	Name      string
	State     SessionState // Session.Seen; Init counts as down
	Since     instant.Instant
	NoCarrier bool // its port has no link; names the cause, never decides
}

// ServiceEvidence is what the probes of one service say.
type ServiceEvidence struct {
	Name     string
	Probes   ProbeCount
	Fail, OK int // in a row, from which on the probes mean something; 1 and more
}

// DatabaseEvidence is the newest believable report of one database's host in
// the data centre.
type DatabaseEvidence struct {
	Name  string
	Heard bool          // a report came since this agent started
	Age   time.Duration // of the report now: its own Age and what it has waited here
	State DatabaseState
}

// Evidence is all that the verdict on the data centre rests on, for one group.
type Evidence struct {
	Now       instant.Instant
	Started   instant.Instant // when this agent started
	Contact   bool            // a path was up since then
	StalledAt instant.Instant // end of the last stall of this process or box; 0: none
	LANDown   bool            // the clients' port has no carrier
	LANBackAt instant.Instant // when its carrier came back last; 0: it was never gone
	Paths     []PathEvidence
	Services  []ServiceEvidence  // those that are probed
	Databases []DatabaseEvidence // every database of the group
}

// JudgeConfig holds the times of Judge.
type JudgeConfig struct {
	BootGrace  time.Duration // after a start, in which silence means nothing
	HostSilent time.Duration // age from which a database host's report is none; three of its intervals, 1 s
	Settle     time.Duration // after a stall of our own, in which the peers may still take us for dead; three detection times
	LANSettle  time.Duration // after our LAN came back: lines on the same bond or switch come later (LACP, spanning tree); 5 s and more
}

// Verdict says whether the group's clients can use the data centre. Neither
// Usable nor Unusable: unknown, keep what is.
type Verdict struct {
	Usable, Unusable bool
	Place            Place // of the fault; a lost line shows here although the rest is usable
	Reason           string
	Args             []string
}

// Judge turns evidence into a verdict. A fault of our own (a stall, a LAN
// without carrier) never makes the data centre unusable.
func (c JudgeConfig) Judge(e Evidence) Verdict {
	v := c.judgeDC(e)
	stalled := e.StalledAt != 0 && e.Now.Sub(e.StalledAt) < c.Settle
	switch {
	case stalled:
		return Verdict{Usable: v.Usable, Place: OwnBox, Reason: ReasonOwnBoxStalled}
	case e.LANDown, e.LANBackAt != 0 && e.Now.Sub(e.LANBackAt) < c.LANSettle:
		return Verdict{Usable: v.Usable, Place: OwnLAN, Reason: ReasonOwnLAN}
	}
	return v
}

func (c JudgeConfig) judgeDC(e Evidence) Verdict {
	var up, down, admin int
	var longest time.Duration // how long a path has been up
	for _, p := range e.Paths {
		switch p.State {
		case Up:
			up++
			longest = max(longest, e.Now.Sub(p.Since))
		case AdminDown:
			admin++
		default:
			down++
		}
	}
	switch {
	case up > 0:
		databases, services := c.judgeDatabases(e, longest), judgeServices(e, DCService)
		switch {
		case databases.Unusable:
			return databases
		case services.Unusable:
			return services
		case databases.Reason != "":
			return databases
		case services.Reason != "":
			return services
		}
		if down > 0 {
			return Verdict{Usable: true, Place: Line, Reason: ReasonLineLost, Args: lost(e.Paths)}
		}
		return Verdict{Usable: true, Reason: ReasonUsable}
	case down > 0 && admin == 0:
		return c.judgeSilence(e)
	case len(e.Services) == 0: // nothing that could speak for paths that are taken down
		return Verdict{Reason: ReasonNothingToJudge}
	}
	if v := judgeServices(e, DCEdge); v.Reason != "" {
		return v
	}
	return Verdict{Usable: true, Reason: ReasonProbesOnly}
}

// judgeSilence: no path is up and none was taken down on purpose. Heartbeats
// that were never heard prove nothing while probes pass (a wrong key, a filter).
func (c JudgeConfig) judgeSilence(e Evidence) Verdict {
	if !e.Contact {
		if e.Now.Sub(e.Started) < c.BootGrace {
			return Verdict{Reason: ReasonBoot}
		}
		passing := len(e.Services) > 0
		for _, s := range e.Services {
			passing = passing && s.Probes.OKs > 0
		}
		if passing {
			return Verdict{Place: Line, Reason: ReasonNeverHeard, Args: lost(e.Paths)}
		}
	}
	reason := ReasonNoCarrier
	for _, p := range e.Paths {
		if !p.NoCarrier {
			reason = ReasonNoAnswer
		}
	}
	return Verdict{Unusable: true, Place: Line, Reason: reason, Args: lost(e.Paths)}
}

// judgeDatabases: the edge is reachable, so what the hosts report decides at
// once, and so does their silence. One bad database outweighs unknown ones; no
// reason means that all are open for clients.
func (c JudgeConfig) judgeDatabases(e Evidence, reachable time.Duration) (v Verdict) {
	for i := range e.Databases {
		d := &e.Databases[i]
		switch {
		case !d.Heard && reachable < c.HostSilent, d.Heard && d.Age < c.HostSilent && d.State.Role == standby.Unknown:
			v = Verdict{Reason: ReasonHostUnknown, Args: []string{d.Name}}
		case !d.Heard || d.Age >= c.HostSilent:
			return unusable(ReasonHostSilent, d.Name)
		case d.State.Role != standby.Primary:
			return unusable(ReasonPrimaryDown, d.Name, d.State.Role.String())
		case !d.State.Open:
			return unusable(ReasonPrimaryFenced, d.Name)
		}
	}
	return v
}

func unusable(reason string, args ...string) Verdict {
	return Verdict{Unusable: true, Place: DCService, Reason: reason, Args: args}
}

// judgeServices: one failing service outweighs those that are still counting;
// no reason means that all pass.
func judgeServices(e Evidence, at Place) (v Verdict) {
	for _, s := range e.Services {
		switch {
		case s.Probes.Fails >= s.Fail:
			return Verdict{Unusable: true, Place: at, Reason: ReasonProbeFailed, Args: []string{s.Name}}
		case s.Probes.OKs < s.OK && v.Reason == "":
			v = Verdict{Reason: ReasonProbesPending, Args: []string{s.Name}}
		}
	}
	return v
}

func lost(paths []PathEvidence) []string {
	names := make([]string, 0, len(paths))
	for _, p := range paths {
		if p.State != Up && p.State != AdminDown {
			names = append(names, p.Name)
		}
	}
	return names
}
