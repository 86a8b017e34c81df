package update

import (
	"context"
	"slices"
	"time"

	"komainu/appliance/control"
	"komainu/drivers/units"
	"komainu/images/trial"
)

// World is where evidence comes from.
type World struct {
	Agent, Time control.Client
	Units       func() []units.Status // of the supervisor
	Console     func() bool           // the console on the serial line runs; nil: this box has none
	Sys         string                // "/sys"
}

// patience is how long one of the daemons may take to answer.
const patience = 2 * time.Second

// follows is the lag below which a standby counts as following its primary.
const follows = time.Minute

// Units whose state the supervisor tells.
const (
	charonUnit = "charon"
	agentUnit  = "agent"
)

// evidence looks at everything once.
func (w World) evidence(ctx context.Context) trial.Evidence {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ports := readPorts(w.Sys)
	e := trial.Evidence{
		Console: w.Console == nil || w.Console(),
		Ports:   ports, Paths: map[string]trial.Path{}, Ready: map[string]bool{}, Streaming: map[string]bool{},
	}
	if w.Units != nil {
		for _, u := range w.Units() {
			switch u.Name {
			case charonUnit:
				e.Charon = u.Running
			case agentUnit:
				e.AgentEnds = u.Starts
				if u.Running {
					e.AgentEnds--
				}
			}
		}
	}
	var st control.Status
	if w.Agent.Get(ctx, control.StatusPath, &st) == nil { // an agent that doesn't answer is what this asks
		e.Agent = true
		addAgent(&e, st, w.Sys)
	}
	var t control.TimeStatus
	if w.Time.Get(ctx, control.TimePath, &t) == nil { // likewise
		e.TimeDaemon, e.Synced, e.TimeSilent = true, t.State == "synchronised", silent(t)
	}
	return e
}

// addAgent reads what the agent says.
func addAgent(e *trial.Evidence, st control.Status, sys string) {
	e.DataCentre = st.Verdict.Usable
	e.Outside = st.Verdict.Place == "dc-edge" || st.Verdict.Place == "dc-service"
	hops := nextHops()
	for _, p := range st.Paths {
		under := below(sys, p.Interface)
		gateway := hops.answer(p.Interface)
		if len(under) == 0 { // a tunnel: it takes whatever leads out
			gateway = hops.answer("")
		}
		e.Paths[p.Name] = trial.Path{Up: p.State == "up", Ports: under, Gateway: gateway}
	}
	for _, d := range st.Databases {
		e.Ready[d.Name] = d.Ready
		e.Streaming[d.Name] = d.Role == "standby" && d.LagS < follows.Seconds()
	}
}

// silent: not one source has answered.
func silent(t control.TimeStatus) bool {
	return !slices.ContainsFunc(t.Sources, func(s control.TimeSource) bool { return s.Replies > 0 })
}

// baseline is what of e is asked of the next image.
func baseline(e trial.Evidence) trial.Baseline {
	b := trial.Baseline{Agent: e.Agent, Charon: e.Charon, TimeDaemon: e.TimeDaemon, Synced: e.Synced, DataCentre: e.DataCentre}
	for name, p := range e.Ports {
		if p.Carrier {
			b.Ports = append(b.Ports, name)
		}
	}
	for name, p := range e.Paths {
		if p.Up {
			b.Paths = append(b.Paths, name)
		}
	}
	for name, ok := range e.Ready {
		if ok {
			b.Ready = append(b.Ready, name)
		}
	}
	for name, ok := range e.Streaming {
		if ok {
			b.Streaming = append(b.Streaming, name)
		}
	}
	for _, names := range [][]string{b.Ports, b.Paths, b.Ready, b.Streaming} {
		slices.Sort(names)
	}
	return b
}
