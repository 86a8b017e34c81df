package console

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"komainu/appliance/control"
)

// QoS are the commands that show how lines are shared.
func QoS() []Command {
	name := []Arg{{Name: "INTERFACE", Optional: true, Complete: sharedLines}, {Name: "PEER", Optional: true}}
	return []Command{{Path: []string{"show", "qos"}, Role: control.Viewer, Help: "usage-show-qos", Args: name, Run: showQoS}}
}

// sharedLines are the lines that are shared, for Tab.
func sharedLines(ctx context.Context, in *Invocation) []string {
	var q control.QoS
	if err := in.Agent.Get(ctx, control.QoSPath, &q); err != nil {
		return nil
	}
	return lineNames(q)
}

func lineNames(q control.QoS) []string {
	var names []string
	for _, l := range q.Lines {
		names = append(names, l.Interface)
	}
	return names
}

// peersMost is how many peers' classes are shown without being asked for.
const peersMost = 8

func showQoS(ctx context.Context, in *Invocation) error {
	var q control.QoS
	if err := in.Agent.Get(ctx, control.QoSPath, &q); err != nil {
		return err
	}
	line, peer := in.Args[0], in.Args[1]
	if line != "" {
		known := lineNames(q)
		if !slices.Contains(known, line) {
			return &control.Error{Code: "qos-none-such", Args: []string{line, strings.Join(known, ", ")}}
		}
		q.Lines = slices.DeleteFunc(q.Lines, func(l control.QoSLine) bool { return l.Interface != line })
	}
	if peer != "" {
		l := &q.Lines[0]
		l.Queues = slices.DeleteFunc(l.Queues, func(x control.QoSQueue) bool { return x.Peer != peer })
		if len(l.Queues) == 0 {
			return &control.Error{Code: "qos-no-peer", Args: []string{peer, line}}
		}
	}
	if in.JSON {
		return in.lay(q)
	}
	p := &page{lang: in.Lang}
	for _, r := range q.Problems {
		p.add(p.say("label-problem"), p.say(r.Code, r.Args...))
	}
	if len(q.Lines) == 0 {
		p.add(p.say("qos-none"), "")
	}
	for _, l := range q.Lines {
		p.sharing(l, peer != "")
	}
	_, err := fmt.Fprint(in.Out, p.text())
	return err
}

// sharing is one line; whole: with every peer's classes.
func (p *page) sharing(l control.QoSLine, whole bool) {
	state := []string{bitrate(float64(l.BitPerS)), l.Kind}
	if l.Overhead > 0 {
		state = append(state, p.say("qos-overhead", fmt.Sprint(l.Overhead)))
	}
	p.add(l.Interface, p.list(state...))
	if l.Missing {
		p.row("label-problem", p.say("qos-missing"))
		return
	}
	p.add("  "+p.say("qos-total"), p.passed(l.Total))
	peers := 0
	for _, x := range l.Queues {
		if x.Class == "" {
			peers++
		}
	}
	whole = whole || peers <= peersMost
	for _, x := range l.Queues {
		name := "  " + x.Class
		switch {
		case x.Class == "":
			name = "  " + x.Peer
		case x.Peer != "" && !whole:
			continue
		case x.Peer != "":
			name = "    " + x.Class
		}
		rates := p.say("qos-rates", bitrate(float64(x.Min)), bitrate(float64(x.Max)), fmt.Sprint(x.Prio))
		p.add(name, rates+"\n"+p.passed(x.QoSCount))
	}
	if !whole {
		p.add("  "+p.say("qos-more", l.Interface), "")
	}
}

// passed is what went through a queue.
func (p *page) passed(n control.QoSCount) string {
	words := []string{p.say("qos-sent", size(n.Bytes))}
	if n.Drops > 0 {
		words = append(words, p.say("qos-dropped", fmt.Sprint(n.Drops)))
	}
	if n.Backlog > 0 {
		words = append(words, p.say("qos-waiting", size(n.Backlog)))
	}
	return p.list(words...)
}
