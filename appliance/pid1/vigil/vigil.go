// Package vigil decides whether the box deserves to live on: it looks at what
// the supervisor and the agent answer, feeds the hardware watchdog, ends an
// agent that hangs, and lets the hardware reset a box that nothing else cures.
// It never looks or acts itself, and never lets a fault that a reset didn't
// cure reset the box for ever. Start reading at Step.
package vigil

import (
	"time"

	"komainu/ntp/instant"
)

// Bounds, measured between samples; the owner samples every Every and the
// hardware resets Hardware after the last Feed.
const (
	Every    = 5 * time.Second
	Hardware = 30 * time.Second

	silence    = 10 * time.Second  // of the supervisor or the agent: it is ended, with its stack in its log
	comeBack   = 70 * time.Second  // the agent hasn't answered for so long, 60 s of it after its restart or the boot
	pathFault  = 60 * time.Second  // the data path is broken by this box: the agent is restarted
	pathBroken = 180 * time.Second // and still is
	lately     = 20 * time.Second  // a refusal counts: the agent is started every few seconds, and a look may meet it then
	mostResets = 2
	resetsIn   = time.Hour
)

// Sample is one look at the box. Every answer was given end to end within a
// deadline: accepted, decided under the lock, sent.
type Sample struct {
	Supervisor bool  // it answered
	Agent      Agent // known only when Supervisor
}

// Agent is what was seen of the agent.
type Agent struct {
	Wanted  bool // it is meant to run; not in rescue, nor after an ordered stop
	Running bool // its process is there
	Answers bool // on its socket
	// Refused: its last run ended by itself with an error that it told (exit 1), as
	// with a broken configuration. Neither a restart nor a reset cures that.
	Refused bool
	Path    bool // it says that the data path is broken by this box, not by a line or a peer
}

// Do is what an Action does.
type Do string

// The actions.
const (
	Feed            Do = "feed"             // give the hardware its next Hardware
	AbortSupervisor Do = "abort supervisor" // SIGABRT: its stack goes to its log, its units live on
	AbortAgent      Do = "abort agent"      // likewise; the supervisor starts it again
	Record          Do = "record"           // make Code durable as the reason of the reset that follows
	Release         Do = "release"          // stop the hardware: only for a dead supervisor that resets didn't bring back
	Tell            Do = "tell"             // write Code to the console and the log
)

// Action is one thing to do, in the order of the slice.
type Action struct {
	Do   Do
	Code string // row of appliance/say; empty for Feed
}

// Vigil is the state between samples; make it by New.
type Vigil struct {
	began  instant.Instant
	past   []time.Duration // ages of earlier resets at began
	said   string
	doomed string // the reason, once feeding has stopped for it

	met bool // the agent has answered since it was last ended: before, it is starting

	refused instant.Instant // when the agent was last seen to have refused
	refuses bool            // refused is valid

	supervisor, agent, path fault
}

// fault is one thing that is wrong.
type fault struct {
	since   instant.Instant // of the first sample that showed it
	on      bool
	aborted instant.Instant // when a process was ended for it last
	tried   bool            // aborted is valid
}

// see enters a sample and tells how long the fault has lasted.
func (f *fault) see(now instant.Instant, on bool) time.Duration {
	if !on {
		*f = fault{}
		return 0
	}
	if !f.on {
		f.on, f.since = true, now
	}
	return time.Duration(now - f.since)
}

// due tells, once per interval, that the process is to be ended.
func (f *fault) due(now instant.Instant, lasted, first, again time.Duration) bool {
	if lasted < first || f.tried && time.Duration(now-f.aborted) < again {
		return false
	}
	f.tried, f.aborted = true, now
	return true
}

// New begins at now. past are the ages of the resets that were recorded by
// this package in earlier runs; those of an hour and more count no more.
func New(now instant.Instant, past []time.Duration) *Vigil {
	return &Vigil{began: now, past: past}
}

// Step enters a sample taken at now. A box is fed in the same step in which its
// supervisor answered, and never in another: a dead supervisor is ended by the
// hardware at the latest.
func (v *Vigil) Step(now instant.Instant, s Sample) []Action {
	if v.doomed != "" {
		return nil // decided and written down: nothing that comes now undoes it
	}
	a := s.Agent
	dead := v.supervisor.see(now, !s.Supervisor)
	if !s.Supervisor {
		return v.noSupervisor(now, dead)
	}
	hung := v.agent.see(now, a.Wanted && !a.Answers)
	v.met = v.met || a.Answers
	if a.Refused {
		v.refused, v.refuses = now, true
	}
	refuses := v.refuses && time.Duration(now-v.refused) < lately
	path := v.path.see(now, a.Wanted && a.Answers && a.Path)
	var out []Action
	reason, wait := "", ""
	switch {
	case hung >= comeBack && refuses:
		wait = "vigil-agent-refuses"
	case hung >= comeBack:
		reason = "reset-agent-hung"
	case path >= pathBroken:
		reason = "reset-path-broken"
	case v.met && a.Running && v.agent.due(now, hung, silence, comeBack):
		v.met = false
		out = append(out, Action{AbortAgent, "vigil-agent-hung"})
	case v.path.due(now, path, pathFault, pathBroken):
		out = append(out, Action{AbortAgent, "vigil-path-broken"})
	}
	if reason != "" {
		if v.resets(now) < mostResets {
			v.doomed = reason
			return []Action{{Record, reason}}
		}
		wait = "vigil-resets-spent"
		// The agent may still be freed from what it hangs in.
		if f := &v.agent; reason == "reset-agent-hung" && a.Running && f.due(now, hung, silence, comeBack) {
			out = append(out, Action{AbortAgent, "vigil-agent-hung"})
		}
	}
	return append(append(out, v.tell(wait)...), Action{Do: Feed})
}

// noSupervisor: it is replaced once its silence has lasted; the hardware does the rest.
func (v *Vigil) noSupervisor(now instant.Instant, lasted time.Duration) []Action {
	// The agent wasn't seen: what it did before proves nothing after.
	v.agent, v.path = fault{}, fault{}
	switch {
	case lasted >= 2*silence && v.resets(now) >= mostResets:
		v.doomed = "vigil-resets-spent"
		return []Action{{Tell, v.doomed}, {Do: Release}}
	case lasted >= 2*silence:
		v.doomed = "reset-supervisor-hung"
		return []Action{{Record, v.doomed}}
	case v.supervisor.due(now, lasted, silence, Hardware):
		return []Action{{AbortSupervisor, "vigil-supervisor-hung"}}
	}
	return nil
}

// tell says a lasting state once.
func (v *Vigil) tell(code string) []Action {
	if code == v.said {
		return nil
	}
	v.said = code
	if code == "" {
		return nil
	}
	return []Action{{Tell, code}}
}

// resets counts those of the last hour.
func (v *Vigil) resets(now instant.Instant) int {
	n := 0
	for _, age := range v.past {
		if age+time.Duration(now-v.began) < resetsIn {
			n++
		}
	}
	return n
}
