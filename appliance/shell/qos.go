package shell

import (
	"context"
	"net/http"

	"komainu/appliance/agent"
	"komainu/appliance/control"
	"komainu/drivers/tc"
	"komainu/netstack/qos"
	"komainu/ntp/instant"
)

// QoS is how the lines are shared now.
func (s *Shell) QoS(ctx context.Context) (control.QoS, error) {
	var v agent.LinesView
	var noHolidays string
	if !s.ask(ctx, func(instant.Instant) {
		all := s.agent.View()
		v, noHolidays = all.Lines, all.Ground.Ground.NoHolidays
	}) {
		return control.QoS{}, &control.Error{Code: "agent-stopping", Status: http.StatusServiceUnavailable}
	}
	out := control.QoS{Lines: []control.QoSLine{}}
	if v.Code != "" {
		out.Problems = append(out.Problems, control.Reason{Code: v.Code, Args: v.Args})
	}
	if noHolidays != "" {
		out.Problems = append(out.Problems, control.Reason{Code: "holidays-unreadable", Args: []string{noHolidays}})
	}
	for _, t := range v.Trees {
		counts, err := s.kernel.queues.counts(s.kernel.ground.link(t.Link))
		if err != nil {
			counts = nil // a link that is missing has no queues
		}
		out.Lines = append(out.Lines, lineStatus(t, counts))
	}
	return out, nil
}

// lineStatus joins what is wanted on a link with what the kernel counted.
func lineStatus(t qos.Tree, counts []tc.Count) control.QoSLine {
	l := control.QoSLine{Interface: t.Name, Kind: string(t.Kind), BitPerS: t.Rate, Overhead: t.Overhead, Missing: len(counts) == 0, Queues: []control.QoSQueue{}}
	parent := map[uint16]uint16{}
	for _, n := range t.Nodes {
		parent[n.ID] = n.Parent
	}
	by := map[uint16]control.QoSCount{}
	for _, c := range counts {
		by[c.ID] = control.QoSCount{Bytes: c.Bytes, Packets: uint64(c.Packets), Drops: uint64(c.Drops), Backlog: uint64(c.Backlog)}
	}
	l.Total = by[0] // of a CAKE
	for _, n := range t.Nodes {
		for up, from := n.Parent, by[n.ID]; n.Leaf && up != 0; up = parent[up] { // the kernel counts drops and what waits at leaves
			sum := by[up]
			sum.Drops, sum.Backlog = sum.Drops+from.Drops, sum.Backlog+from.Backlog
			by[up] = sum
		}
	}
	for _, n := range t.Nodes {
		if n.Parent == 0 {
			l.Total = by[n.ID]
			continue
		}
		if n.Peer != "" && n.Leaf && parent[n.Parent] == 0 { // is its peer's whole share
			l.Queues = append(l.Queues, control.QoSQueue{Peer: n.Peer, Min: n.Rate, Max: n.Ceil, Prio: n.Prio, QoSCount: by[n.ID]})
		}
		l.Queues = append(l.Queues, control.QoSQueue{Peer: n.Peer, Class: n.Class, Min: n.Rate, Max: n.Ceil, Prio: n.Prio, QoSCount: by[n.ID]})
	}
	return l
}
