package console

import (
	"context"
	"fmt"
	"strings"

	"komainu/appliance/control"
)

// VPN are the commands that show tunnels.
func VPN() []Command {
	name := []Arg{{Name: "NAME", Optional: true, Complete: tunnelWords}}
	return []Command{{Path: []string{"show", "vpn"}, Role: control.Viewer, Help: "usage-show-vpn", Args: name, Run: showVPN}}
}

// tunnelWords are the names of tunnels, for Tab.
func tunnelWords(ctx context.Context, in *Invocation) []string {
	var v control.VPN
	if err := in.Agent.Get(ctx, control.VPNPath, &v); err != nil {
		return nil
	}
	return tunnelNames(v)
}

func tunnelNames(v control.VPN) []string {
	var names []string
	for _, t := range v.Tunnels {
		names = append(names, t.Name)
	}
	return names
}

func showVPN(ctx context.Context, in *Invocation) error {
	var v control.VPN
	if err := in.Agent.Get(ctx, control.VPNPath, &v); err != nil {
		return err
	}
	word := in.Args[0]
	if word != "" {
		known := tunnelNames(v)
		var one []control.Tunnel
		for _, t := range v.Tunnels {
			if t.Name == word {
				one = append(one, t)
			}
		}
		if len(one) == 0 {
			return &control.Error{Code: "vpn-none-such", Args: []string{word, strings.Join(known, ", ")}}
		}
		v.Tunnels = one
	}
	if in.JSON {
		return in.lay(v)
	}
	p := &page{lang: in.Lang}
	for _, r := range v.Problems {
		p.add(p.say("label-problem"), p.say(r.Code, r.Args...))
	}
	if len(v.Tunnels) == 0 {
		p.add(p.say("vpn-none"), "")
	}
	for _, t := range v.Tunnels {
		p.tunnel(t, word != "")
	}
	_, err := fmt.Fprint(in.Out, p.text())
	return err
}

// tunnel is one; whole: with all that is known.
func (p *page) tunnel(t control.Tunnel, whole bool) {
	code := "vpn-down"
	switch t.State {
	case "up":
		code = "vpn-up"
	case "trying":
		code = "vpn-trying"
	}
	state := p.say(code)
	if t.Renewing {
		state += p.aside(p.say("vpn-renewing"))
	}
	p.add(t.Name, p.list(state, p.say("vpn-for", span(p.lang, t.SinceS))))
	p.row("label-peer", t.RemoteID+p.aside(t.Remote))
	if t.Refused != nil {
		p.row("label-problem", p.say(t.Refused.Code, t.Refused.Args...))
	}
	if t.ESP != "" {
		p.row("label-suite", t.ESP)
		p.row("label-keys", p.say("vpn-rekey-in", span(p.lang, t.RekeyESPS)))
		p.row("label-traffic", p.list(p.say("vpn-received", size(t.RxBytes)), p.say("vpn-sent", size(t.TxBytes))))
	}
	if !whole {
		return
	}
	p.row("label-own-side", t.LocalID+p.aside(t.Local))
	p.row("label-line", p.list(t.Interface, t.Link))
	how, begins := "vpn-by-certificate", "vpn-peer-begins"
	if t.PSK {
		how = "vpn-by-psk"
	}
	if t.Initiate {
		begins = "vpn-we-begin"
	}
	words := []string{p.say(how), p.say(begins)}
	if t.NAT {
		words = append(words, p.say("vpn-nat"))
	}
	p.row("label-how", p.list(words...))
	if t.IKE != "" {
		p.row("label-ike", p.list(t.IKE, p.say("vpn-rekey-in", span(p.lang, t.RekeyIKES))))
	}
}
