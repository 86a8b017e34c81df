package shell

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"komainu/appliance/agent"
	"komainu/drivers/units"
	"komainu/drivers/vici"
)

// tunneling is what the shell holds of charon.
type tunneling struct {
	keeper *vici.Keeper
	keys   func(string) (vici.Keys, error)
	sup    units.Client
}

func newTunneling(cfg Config, sup units.Client) *tunneling {
	return &tunneling{keeper: vici.NewKeeper(vici.KeeperConfig{Socket: filepath.Join(cfg.Run, "charon.vici")}), keys: cfg.Keys, sup: sup}
}

// run turns what charon tells into events until ctx ends.
func (t *tunneling) run(ctx context.Context, event func(context.Context, agent.Event)) error {
	return t.keeper.Run(ctx, func(e vici.Event) {
		switch e := e.(type) {
		case vici.Connected:
			event(ctx, agent.DaemonChanged{Up: true, Text: e.Version})
		case vici.Lost:
			event(ctx, agent.DaemonChanged{Silent: e.Silent, Text: fmt.Sprint(e.Err)})
		case vici.Changed:
			event(ctx, agent.TunnelChanged{Name: e.State.Name, Up: e.State.Up, Trying: e.State.Trying, Anew: e.Anew,
				Peer: e.State.SA.Remote, Suite: e.State.SA.Suite})
		case vici.Refused:
			event(ctx, agent.TunnelRefused{Tunnel: e.Tunnel, Peer: e.Peer, Identity: e.Identity, Reason: refusal(e), Detail: e.Detail})
		case vici.Emptied:
			event(ctx, agent.TunnelEmptied{Name: e.Tunnel})
		}
	})
}

// refusal is the row of appliance/say.
func refusal(r vici.Refused) string {
	switch r.Reason {
	case vici.WrongKey:
		return "tunnel-wrong-key"
	case vici.WrongIdentity:
		return "tunnel-wrong-identity"
	case vici.Expired:
		return "tunnel-expired"
	case vici.NotYetValid:
		return "tunnel-not-yet-valid"
	case vici.Revoked:
		return "tunnel-revoked"
	case vici.Untrusted:
		return "tunnel-untrusted"
	case vici.NoStatus:
		return "tunnel-no-status"
	case vici.NoTunnel:
		return "tunnel-no-tunnel"
	case vici.NoSuite:
		if r.ByPeer { // a peer that knows no tunnel for this box says so too
			return "tunnel-not-agreed"
		}
		return "tunnel-no-suite"
	case vici.NoNetwork:
		return "tunnel-no-network"
	case vici.NoKey:
		return "tunnel-no-key"
	case vici.AuthFailed:
		return "tunnel-auth-failed"
	case vici.NoAnswer:
		return "tunnel-no-answer"
	case vici.KernelRefuses:
		return "tunnel-kernel-refuses"
	case vici.Unexplained:
	}
	return "tunnel-unexplained"
}

// set gives charon the tunnels. One whose keys can't be read keeps the others
// from nothing.
func (t *tunneling) set(ctx context.Context, w agent.SetTunnels) agent.Done {
	var want []vici.Desired
	var errs []error
	for _, x := range w.Tunnels {
		k, err := t.keys(x.Name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		want = append(want, vici.Desired{Tunnel: x, Keys: k})
	}
	errs = append(errs, t.keeper.Set(ctx, want))
	return result(ctx, errors.Join(errs...), "tunnels-not-set")
}

// renew begins a tunnel.
func (t *tunneling) renew(ctx context.Context, name string) agent.Done {
	return result(ctx, t.keeper.Initiate(ctx, name), "tunnel-not-begun")
}

// restart ends a charon that hangs; the supervisor starts another one.
func (t *tunneling) restart(ctx context.Context) agent.Done {
	return result(ctx, t.sup.Signal(ctx, "charon", syscall.SIGKILL), "charon-not-restarted")
}
