package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"komainu/appliance/control"
	"komainu/drivers/icmp"
)

// Bounds of questions that a person asks.
const (
	pingUsual = 5
	pingMost  = 10000
	pingEvery = time.Second
	pingWait  = time.Second
	pingSize  = 84 // bytes of the whole packet, as ping(8) has it
	traceSize = 60
)

// openTo opens a socket to the host of the first argument.
func (in *Invocation) openTo(ctx context.Context) (*icmp.Conn, netip.Addr, error) {
	host, err := in.host(ctx, in.Args[0])
	if err != nil {
		return nil, host, err
	}
	t := icmp.Target{Host: host}
	if s := in.Option["source"]; s != "" {
		if t.Source, err = netip.ParseAddr(s); err != nil || t.Source.Unmap().Is4() != host.Is4() {
			return nil, host, usage("net-failed", "--source", s)
		}
	}
	if name := in.Option["interface"]; name != "" {
		if t.Interface, err = in.link(ctx, name); err != nil {
			return nil, host, err
		}
	}
	c, err := icmp.Open(ctx, t)
	return c, host, explain(in.Args[0], err)
}

// pinged is a question or the sum as JSON.
type pinged struct {
	Number    int     `json:"number"`
	Answer    string  `json:"answer"`
	From      string  `json:"from,omitempty"`
	RTTMs     float64 `json:"rtt_ms,omitempty"`
	TTL       int     `json:"ttl,omitempty"`
	Bytes     int     `json:"bytes,omitempty"`
	MTU       int     `json:"mtu,omitempty"`
	Duplicate bool    `json:"duplicate,omitempty"`
}

func ping(ctx context.Context, in *Invocation) error {
	count, err := countIn(in.Args[1], pingUsual, 1, pingMost)
	if err != nil {
		return err
	}
	c, host, err := in.openTo(ctx)
	if err != nil {
		return err
	}
	defer c.Close() // read side: nothing to lose
	size, err := countIn(in.Option["size"], pingSize, c.Header(), icmp.SizeMost)
	if err != nil {
		return err
	}
	p := &page{lang: in.Lang}
	if !in.JSON {
		if err := p.line(in, "ping-begun", host.String(), strconv.Itoa(count), strconv.Itoa(size)); err != nil {
			return err
		}
	}
	sum, err := c.Ping(ctx, icmp.Pings{Count: count, Size: size, Every: pingEvery, Wait: pingWait}, func(r icmp.Reply) error {
		if in.JSON {
			return json.NewEncoder(in.Out).Encode(pingedOf(r))
		}
		return p.line(in, p.reply(r)[0], p.reply(r)[1:]...)
	})
	if err != nil {
		return explain(in.Args[0], err)
	}
	if err := p.pingSum(in, sum); err != nil {
		return err
	}
	if sum.Received == 0 {
		return errReported
	}
	return nil
}

func pingedOf(r icmp.Reply) pinged {
	j := pinged{Number: r.Number, Answer: string(r.Kind), RTTMs: milliseconds(r.RTT), TTL: r.TTL, MTU: r.MTU, Duplicate: r.Duplicate}
	if r.From.IsValid() {
		j.From = r.From.String()
	}
	if r.Kind == icmp.EchoReply {
		j.Bytes = r.Size
	}
	return j
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// reply is the code of one answer and its arguments.
func (p *page) reply(r icmp.Reply) []string {
	n, from := strconv.Itoa(r.Number), r.From.String()
	switch r.Kind {
	case icmp.EchoReply:
		if r.Duplicate {
			return []string{"ping-duplicate", n, from, p.amount(r.RTT.Seconds())}
		}
		return []string{"ping-reply", n, from, p.amount(r.RTT.Seconds()), strconv.Itoa(r.TTL), strconv.Itoa(r.Size)}
	case icmp.Silent, icmp.LongHere:
		return []string{"ping-" + string(r.Kind), n}
	case icmp.NotSent:
		return []string{"ping-" + string(r.Kind), n, r.Err.Error()}
	case icmp.TooBig:
		return []string{"ping-" + string(r.Kind), n, from, unlessZero(r.MTU)}
	case icmp.Unreachable:
		return []string{"ping-" + string(r.Kind), n, from, strconv.Itoa(r.Code)}
	}
	return []string{"ping-" + string(r.Kind), n, from}
}

func unlessZero(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func (p *page) pingSum(in *Invocation, s icmp.Summary) error {
	if in.JSON {
		return json.NewEncoder(in.Out).Encode(map[string]any{
			"sent": s.Sent, "received": s.Received, "duplicates": s.Duplicates, "loss": s.Lost(),
			"least_ms": milliseconds(s.Least), "mean_ms": milliseconds(s.Mean), "most_ms": milliseconds(s.Most)})
	}
	if err := p.line(in, "ping-summary", strconv.Itoa(s.Sent), strconv.Itoa(s.Received), fmt.Sprintf("%.0f", 100*s.Lost())); err != nil || s.Received == 0 {
		return err
	}
	return p.line(in, "ping-times", p.amount(s.Least.Seconds()), p.amount(s.Mean.Seconds()), p.amount(s.Most.Seconds()))
}

// hop is one of a trace as JSON.
type hop struct {
	Hop     int      `json:"hop"`
	Answers []pinged `json:"answers"`
}

func traceroute(ctx context.Context, in *Invocation) error {
	c, _, err := in.openTo(ctx)
	if err != nil {
		return err
	}
	defer c.Close() // read side: nothing to lose
	p := &page{lang: in.Lang}
	reached, err := c.Trace(ctx, traceSize, func(h icmp.Hop) error {
		if in.JSON {
			j := hop{Hop: h.Number}
			for k, a := range h.Answers {
				j.Answers = append(j.Answers, pingedOf(icmp.Reply{Answer: a, Number: k + 1, RTT: h.RTT[k]}))
			}
			return json.NewEncoder(in.Out).Encode(j)
		}
		_, err := fmt.Fprint(in.Out, p.hop(h))
		return err
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	if err != nil {
		return explain(in.Args[0], err)
	}
	if !reached {
		if !in.JSON {
			if err := p.line(in, "trace-not-reached"); err != nil {
				return err
			}
		}
		return errReported
	}
	return nil
}

// hop is a line for each router that answered at one distance: several, where
// packets go several ways.
func (p *page) hop(h icmp.Hop) string {
	var b strings.Builder
	last, notes := netip.Addr{}, map[string]bool{}
	line := fmt.Sprintf("%2d ", h.Number)
	for k, a := range h.Answers {
		if !a.From.IsValid() {
			line += " *"
			continue
		}
		if a.From != last {
			if last.IsValid() {
				b.WriteString(strings.TrimRight(line, " ") + "\n")
				line = "   "
			}
			line += " " + a.From.String()
			last = a.From
		}
		line += "  " + p.amount(h.RTT[k].Seconds())
		if a.Kind != icmp.EchoReply && a.Kind != icmp.TimeOut {
			r := p.reply(icmp.Reply{Answer: a, Number: h.Number})
			notes[p.say(r[0], r[1:]...)] = true
		}
	}
	b.WriteString(line + "\n")
	for _, n := range slices.Sorted(maps.Keys(notes)) {
		b.WriteString("    ! " + n + "\n")
	}
	return b.String()
}

func searchMTU(ctx context.Context, in *Invocation) error {
	c, host, err := in.openTo(ctx)
	if err != nil {
		return err
	}
	defer c.Close() // read side: nothing to lose
	p := &page{lang: in.Lang}
	shown := map[string]bool{} // the search asks again and again to be sure
	found, err := c.MTU(ctx, func(probe icmp.Probe) error {
		text := p.probed(probe)
		if in.JSON || shown[text] {
			return nil
		}
		shown[text] = true
		_, err := fmt.Fprintln(in.Out, text)
		return err
	})
	if errors.Is(err, context.Canceled) {
		return nil // what was asked so far is told
	}
	if err != nil {
		return explain(in.Args[0], err)
	}
	if in.JSON {
		return in.lay(map[string]any{"host": host.String(), "outcome": found.Outcome, "bytes": found.Size, "probes": found.Probes,
			"interface": found.Interface, "told": found.Told, "black_hole": found.BlackHole()})
	}
	return p.pathMTU(in, host, found)
}

func (p *page) probed(probe icmp.Probe) string {
	size := strconv.Itoa(probe.Size)
	switch probe.Kind {
	case icmp.EchoReply:
		return p.say("mtu-passes", size)
	case icmp.Silent:
		return p.say("mtu-silent", size)
	case icmp.TooBig:
		return p.say("mtu-refused", size, probe.From.String(), unlessZero(probe.MTU))
	case icmp.LongHere:
		return p.say("mtu-refused", size, "", "")
	}
	r := p.reply(icmp.Reply{Answer: icmp.Answer{Kind: probe.Kind, From: probe.From}, Number: probe.Size})
	return p.say(r[0], r[1:]...)
}

func (p *page) pathMTU(in *Invocation, host netip.Addr, found icmp.PathMTU) error {
	size := strconv.Itoa(found.Size)
	switch found.Outcome {
	case icmp.NoOne:
		return &control.Error{Code: "mtu-none", Args: []string{host.String()}}
	case icmp.Unsure:
		if err := p.line(in, "mtu-unsure", size, host.String()); err != nil {
			return err
		}
		return errReported
	}
	headers := 40 // IP and TCP
	if host.Is6() {
		headers = 60
	}
	if err := p.line(in, "mtu-found", size, host.String(), strconv.Itoa(found.Size-headers)); err != nil {
		return err
	}
	if found.BlackHole() {
		if err := p.line(in, "mtu-hole", size); err != nil {
			return err
		}
	}
	if host.Is6() && found.Size < 1280 {
		return p.line(in, "mtu-short")
	}
	return nil
}
