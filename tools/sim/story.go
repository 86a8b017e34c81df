package main

import (
	"fmt"
	"io"
	"strings"

	"komainu/appliance/agent"
	"komainu/failover/machine"
)

const storyKept = 400

// story is the transcript: the last entries, rendered only when they are read.
type story struct {
	ring  [storyKept]entry
	count int
	to    io.Writer // everything, as it happens; nil: nowhere
}

type entry struct {
	at     int64
	node   int
	format string
	args   []any
	what   any // agent.Event, or an agent.Action
}

func (w *world) add(e entry) {
	e.at = w.now
	w.story.ring[w.story.count%storyKept] = e
	w.story.count++
	if w.story.to != nil {
		fmt.Fprintln(w.story.to, e.String())
	}
}

// say adds what happened in the world.
func (w *world) say(format string, args ...any) {
	w.add(entry{node: -1, format: format, args: args})
}

// log adds an event, unless it is one of the many that say nothing new.
func (w *world) log(n *node, ev agent.Event) {
	switch e := ev.(type) {
	case agent.Tick, agent.Beat, agent.Looked, agent.Probed, agent.Progress:
		return
	case agent.Done:
		if w.story.to == nil && e.Outcome == agent.OK {
			return
		}
	}
	w.add(entry{node: n.id, what: ev})
}

func (w *world) logAction(n *node, a agent.Action) {
	w.add(entry{node: n.id, what: a})
}

// tail renders the last entries.
func (w *world) tail(lines int) string {
	var b strings.Builder
	from := max(0, w.story.count-min(lines, storyKept))
	for i := from; i < w.story.count; i++ {
		b.WriteString(w.story.ring[i%storyKept].String())
		b.WriteByte('\n')
	}
	return b.String()
}

func (e entry) String() string {
	head := fmt.Sprintf("%9.3f ", float64(e.at)/float64(sec))
	if e.node < 0 {
		return head + "           | " + fmt.Sprintf(e.format, e.args...)
	}
	head += fmt.Sprintf("%-10s ", nodeNames[e.node])
	switch x := e.what.(type) {
	case agent.Action:
		return head + "> " + describe(x)
	case agent.Event:
		return head + "< " + describeEvent(x)
	}
	return head
}

func describe(a agent.Action) string {
	id := ""
	if a.ID != 0 {
		id = fmt.Sprintf("#%d ", a.ID)
	}
	switch do := a.Do.(type) {
	case agent.SaveGroup:
		return id + "save " + describeRecord(do.Record)
	case agent.SaveDatabase:
		r := do.Record
		return id + fmt.Sprintf("save %s/%s %s term %d owner %s epoch %d orphans %d cause %s", r.Group, r.Database, r.Phase, r.Term, r.Owner, r.Epoch, r.Orphans, r.Cause)
	case agent.Steer:
		var b strings.Builder
		for _, e := range do.Table.Entries {
			fmt.Fprintf(&b, " %s→%s@%d", e.Name, e.Target, e.Epoch)
		}
		return id + "steer" + b.String()
	case agent.Retire:
		return id + fmt.Sprintf("retire %v", do.Services)
	case agent.SetGate:
		return id + fmt.Sprintf("gate %s open %v epoch %d", do.Gate.Name, do.Gate.Open, do.Gate.Epoch)
	case agent.Server:
		return id + fmt.Sprintf("server %s %s term %d fork %s %s", do.Database, do.Op, a.Term, do.Fork, do.Text)
	case agent.SendOrder:
		return id + fmt.Sprintf("send %s to %s: %s term %d lsn %s count %d", do.Order.Kind, do.Peer, do.Order.Database, do.Order.Term, do.Order.LSN, do.Order.Count)
	case agent.Answer:
		return fmt.Sprintf("answer %s ok %v %s %v", do.Reply.ID, do.Reply.OK, do.Reply.Code, do.Reply.Args)
	case agent.Note:
		return fmt.Sprintf("note %s %s %v", do.Subject, do.Code, do.Args)
	case agent.Alarm:
		return fmt.Sprintf("alarm %s %s raised %v", do.Subject, do.ID, do.Raised)
	case agent.Cancel:
		return fmt.Sprintf("cancel #%d", do.Target)
	case agent.SetRoutes:
		var b strings.Builder
		for _, r := range do.Routes {
			fmt.Fprintf(&b, " %s by %s", r.To, r.Link)
		}
		return id + "routes" + b.String()
	case agent.Prove:
		return id + "prove " + do.Service
	}
	return id + fmt.Sprintf("%T", a.Do)
}

func describeRecord(r machine.Record) string {
	voucher := ""
	if r.Voucher != nil {
		voucher = fmt.Sprintf(" voucher for %d", r.Voucher.Term)
	}
	return fmt.Sprintf("%s %s term %d owner %s epoch %d/%d hold %v pinned %v confirmed %v%s cause %s", r.Group, r.Phase, r.Term, r.Owner, r.Epoch, r.GateEpoch, r.Hold, r.Pinned, r.Confirmed, voucher, r.Cause)
}

func describeEvent(ev agent.Event) string {
	switch e := ev.(type) {
	case agent.Done:
		out := [...]string{"ok", "FAILED", "UNKNOWN"}[e.Outcome]
		return fmt.Sprintf("done #%d %s %s", e.ID, out, e.Code)
	case agent.Ordered:
		return fmt.Sprintf("ordered by %q: %s %s %s term %d count %d", e.From, e.Order.Kind, e.Order.Group, e.Order.Database, e.Order.Term, e.Order.Count)
	case agent.Carrier:
		return fmt.Sprintf("carrier %s %v", e.Link, e.Up)
	}
	return fmt.Sprintf("%T", ev)
}
