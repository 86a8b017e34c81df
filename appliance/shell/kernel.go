package shell

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"komainu/appliance/agent"
	"komainu/drivers/announce"
	"komainu/drivers/conntrack"
	"komainu/drivers/kick"
	"komainu/drivers/nft"
	"komainu/drivers/park"
	"komainu/drivers/rtnl"
	"komainu/drivers/sockdiag"
	"komainu/netstack/plan"
	"komainu/netstack/spec"
	"komainu/netstack/steer"
)

// kernel is what the shell holds open of the kernel's networking.
type kernel struct {
	spec  agent.Spec
	nft   *nft.Steering
	ct    *conntrack.Conn
	socks *sockdiag.Conn
	park  *park.Park // town hall
	rt    *rtnl.Conn
	peers []netip.Addr // replication peers, let through to the raw local ports
}

// parkDevice queues connections that wait in a hand-over.
const parkDevice = "komainu-park"

func openKernel(s agent.Spec) (*kernel, error) {
	k := &kernel{spec: s}
	for _, d := range s.Databases {
		k.peers = append(k.peers, d.Peers...)
	}
	var err, e error
	if k.rt, e = rtnl.Open(); e != nil {
		err = errors.Join(err, e)
	}
	if k.nft, e = nft.Open(); e != nil {
		err = errors.Join(err, e)
	}
	if k.socks, e = sockdiag.Open(); e != nil {
		err = errors.Join(err, e)
	}
	if s.Role == agent.TownHall {
		if k.ct, e = conntrack.Open(); e != nil {
			err = errors.Join(err, e)
		}
		if k.park, e = park.Open(parkDevice); e != nil {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("kernel networking: %w", err), k.close())
	}
	return k, nil
}

func (k *kernel) close() error {
	var err error
	if k.rt != nil {
		err = errors.Join(err, k.rt.Close())
	}
	if k.nft != nil {
		err = errors.Join(err, k.nft.Close())
	}
	if k.ct != nil {
		err = errors.Join(err, k.ct.Close())
	}
	if k.socks != nil {
		err = errors.Join(err, k.socks.Close())
	}
	if k.park != nil {
		err = errors.Join(err, k.park.Close())
	}
	return err
}

// watch reports carrier changes and runs the parking queue until ctx ends.
func (k *kernel) watch(ctx context.Context, event func(context.Context, agent.Event)) error {
	parked := make(chan error, 1)
	go func() {
		if k.park == nil {
			parked <- nil
			return
		}
		parked <- k.park.Run(ctx)
	}()
	err := rtnl.Watch(ctx, func(l rtnl.Link) { event(ctx, agent.Carrier{Link: l.Name, Up: l.Up && l.Carrier}) })
	return errors.Join(err, <-parked)
}

// openGates are the gates that the kernel holds open.
func (k *kernel) openGates(s agent.Spec) map[string]uint16 {
	open := map[string]uint16{}
	for _, d := range s.Databases {
		if g, err := k.nft.ObserveGate(d.Name); err == nil && g.Open {
			open[d.Name] = g.Epoch
		}
	}
	return open
}

// steer makes the table so. Connections to parked services begin to wait
// before the rules send them here, and go on once the rules no longer do.
func (k *kernel) steer(_ context.Context, w agent.Steer) error {
	var wait, through []netip.AddrPort
	for _, e := range w.Table.Entries {
		if e.Target == steer.Parked {
			wait = append(wait, e.Stable)
		} else {
			through = append(through, e.Stable)
		}
	}
	k.park.Hold(wait...)
	if _, err := k.nft.Apply(w.Table, k.peers...); err != nil {
		return err
	}
	_, err := k.park.Release(through...)
	return err
}

// retire removes the connections of former epochs: first they are forgotten,
// so that whatever a client still sends is answered with a reset, then silent
// clients are reset.
func (k *kernel) retire(ctx context.Context, w agent.Retire) agent.Done {
	now := map[uint8]steer.Entry{}
	for _, e := range w.Table.Entries {
		for _, name := range w.Services {
			if e.Name == name {
				now[e.Mark] = e
			}
		}
	}
	flows, err := k.ct.All(ctx)
	if err != nil {
		return result(ctx, err, "retire-failed")
	}
	const ours = steer.ServiceMask | steer.EpochMask
	var old []conntrack.Flow
	gone := map[uint32]bool{}
	for _, f := range flows {
		if e, ok := now[uint8(f.Mark&steer.ServiceMask)]; ok && f.Mark&ours != e.ConnMark() {
			old = append(old, f)
			gone[f.Mark&ours] = true
		}
	}
	for m := range gone {
		if err := k.ct.Delete(m, ours); err != nil {
			return result(ctx, err, "retire-failed")
		}
	}
	r, err := kick.Kick(ctx, old)
	if err != nil {
		return result(ctx, err, "retire-failed")
	}
	return agent.Done{Value: agent.Retired{Flows: len(old), Reset: r.Reset, ResetMax: r.Max}}
}

// gate closes or opens a server to its clients; when it closes, their sockets
// are destroyed and seen gone, for the kernel would otherwise send a reply
// that was held back once the gate opens again.
func (k *kernel) gate(ctx context.Context, w agent.SetGate) error {
	if err := k.nft.Gate(w.Gate); err != nil {
		return err
	}
	if !w.Sever {
		return nil
	}
	if _, err := k.socks.Destroy(w.Gate.Port, w.Gate.Peers); err != nil {
		return err
	}
	for {
		n, err := k.socks.Count(w.Gate.Port, w.Gate.Peers)
		if err != nil || n == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d client sockets of port %d are still there: %w", n, w.Gate.Port, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// routes makes our routes so, moving a prefix in one message.
func (k *kernel) routes(want []spec.Route) error {
	have, err := k.rt.Observe()
	if err != nil {
		return err
	}
	return k.rt.Apply(plan.Diff(plan.Net{Routes: have.Routes}, plan.Net{Routes: want}, nil))
}

// own adds the addresses that are missing.
func (k *kernel) own(want []spec.Address) error {
	have, err := k.rt.Observe()
	if err != nil {
		return err
	}
	return k.rt.Apply(plan.Diff(plan.Net{Addresses: have.Addresses}, plan.Net{Addresses: want}, nil))
}

// addresses adds the stable addresses that are missing and tells the
// neighbours about all of them.
func (k *kernel) addresses(want []spec.Address) error {
	if err := k.own(want); err != nil {
		return err
	}
	byLink := map[string][]netip.Addr{}
	for _, a := range want {
		byLink[a.Link] = append(byLink[a.Link], a.Prefix.Addr())
	}
	for link, addrs := range byLink {
		if err := announce.Announce(link, addrs); err != nil {
			return err
		}
	}
	return nil
}
