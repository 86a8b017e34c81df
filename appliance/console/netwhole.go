package console

import (
	"context"
	"fmt"
	"strconv"

	"komainu/appliance/control"
)

// showNetwork is the network as a whole: whether the kernel is as configured,
// which gateways are used and why others aren't, and what was put right.
func showNetwork(ctx context.Context, in *Invocation) error {
	n, err := in.network(ctx, "", func(control.NetLink) bool { return true })
	if err != nil {
		return err
	}
	if in.JSON {
		return in.lay(n)
	}
	p := &page{lang: in.Lang}
	if n.Settled {
		p.add(p.say("label-network"), p.say("network-settled"))
	}
	p.troubled(n)
	for _, g := range n.Gateways {
		p.add(p.say("label-gateway"), p.gateway(g))
	}
	for _, d := range n.Drift {
		p.add(p.say("label-corrected"), p.pair(clock(d.At), d.Change))
	}
	_, err = fmt.Fprint(in.Out, p.text())
	return err
}

func (p *page) gateway(g control.Gateway) string {
	use := "gateway-unused"
	if g.Used {
		use = "gateway-used"
	}
	s := g.Address + p.aside(p.list(g.Interface, p.say("gateway-metric", strconv.Itoa(g.Metric)))) + " " + p.say(use)
	if g.Reason.Code != "" {
		s = p.list(s, "! "+p.say(g.Reason.Code, g.Reason.Args...))
	}
	return s
}
