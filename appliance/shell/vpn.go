package shell

import (
	"context"
	"net/http"
	"time"

	"komainu/appliance/agent"
	"komainu/appliance/control"
	"komainu/drivers/vici"
	"komainu/ntp/instant"
)

// lookWithin is how long charon may take to tell how its tunnels are.
const lookWithin = 2 * time.Second

// VPN is how the tunnels are now.
func (s *Shell) VPN(ctx context.Context) (control.VPN, error) {
	var v agent.View
	if !s.ask(ctx, func(instant.Instant) { v = s.agent.View() }) {
		return control.VPN{}, &control.Error{Code: "agent-stopping", Status: http.StatusServiceUnavailable}
	}
	out := control.VPN{Tunnels: []control.Tunnel{}}
	var now map[string]vici.State
	if v.Tunnels.Daemon.Up {
		out.Charon = v.Tunnels.Daemon.Text
		within, cancel := context.WithTimeout(ctx, lookWithin)
		defer cancel()
		now, _ = s.tunnels.keeper.Look(within) // without it the agent's picture stands
	} else if len(v.Tunnels.Tunnels) > 0 {
		out.Problems = append(out.Problems, control.Reason{Code: "charon-silent"})
	}
	if v.Tunnels.Code != "" {
		out.Problems = append(out.Problems, control.Reason{Code: v.Tunnels.Code, Args: v.Tunnels.Args})
	}
	for _, t := range v.Tunnels.Tunnels {
		out.Tunnels = append(out.Tunnels, tunnelStatus(v, t, now[t.Name]))
	}
	return out, nil
}

func tunnelStatus(v agent.View, t agent.TunnelView, st vici.State) control.Tunnel {
	since := max(t.Since, v.Started)
	age := v.Now.Sub(since)
	x := control.Tunnel{Name: t.Name, Interface: t.Line, Link: t.Link, State: "down", Since: time.Unix(0, v.Wall-int64(age)), SinceS: age.Seconds(),
		Initiate: t.Initiate, Local: t.Local.String(), Remote: "any", LocalID: t.LocalID, RemoteID: t.RemoteID, PSK: t.PSK}
	if t.Remote.IsValid() {
		x.Remote = t.Remote.String()
	}
	switch {
	case t.State.Up:
		x.State, x.Renewing = "up", t.State.Trying
		x.Remote = t.State.Peer.Addr().String()
	case t.State.Trying:
		x.State = "trying"
	}
	if r := t.Refused; r != nil {
		peer := x.Remote
		if r.Peer.IsValid() {
			peer = r.Peer.String()
		}
		x.Refused = &control.Reason{Code: r.Reason, Args: []string{peer, r.Identity}}
	}
	if t.State.Up && st.Up {
		c := st.SA.Carrier()
		x.NAT, x.Encap, x.IKE, x.ESP = st.SA.NAT, c.Encap, st.SA.Suite, c.Suite
		x.RekeyIKES, x.RekeyESPS = st.SA.Rekey.Seconds(), c.Rekey.Seconds()
		x.RxBytes, x.TxBytes, x.RxPackets, x.TxPackets = c.InBytes, c.OutBytes, c.InPackets, c.OutPackets
	}
	return x
}
