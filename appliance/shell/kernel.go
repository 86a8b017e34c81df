package shell

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"komainu/appliance/agent"
	"komainu/drivers/clock"
	"komainu/drivers/conntrack"
	"komainu/drivers/kick"
	"komainu/drivers/nft"
	"komainu/drivers/park"
	"komainu/drivers/rtnl"
	"komainu/drivers/sockdiag"
	"komainu/netstack/steer"
)

// kernel is what the shell holds open of the kernel's networking.
type kernel struct {
	spec   agent.Spec
	nft    *nft.Steering
	ct     *conntrack.Conn
	socks  *sockdiag.Conn
	park   *park.Park // town hall
	rt     *rtnl.Conn
	ground *grounding
	queues *queueing
	peers  []netip.Addr // replication peers, let through to the raw local ports
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
	k.ground = &grounding{rt: k.rt, addressed: s.Role != agent.TownHall, asking: newAsking()}
	if s.Role != agent.DCDB {
		if k.ground.filter, e = nft.OpenFilter(); e != nil {
			err = errors.Join(err, e)
		}
	}
	if k.queues, e = newQueueing(); e != nil {
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
	if k.queues != nil {
		err = errors.Join(err, k.queues.close())
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
	if k.ground != nil && k.ground.filter != nil {
		err = errors.Join(err, k.ground.filter.Close())
	}
	if k.park != nil {
		err = errors.Join(err, k.park.Close())
	}
	return err
}

// watch reports carrier changes and drift, calls linked when a link may be
// another one, and runs the parking queue, until ctx ends.
func (k *kernel) watch(ctx context.Context, event func(context.Context, agent.Event), linked func()) error {
	parked := make(chan error, 1)
	go func() {
		if k.park == nil {
			parked <- nil
			return
		}
		parked <- k.park.Run(ctx)
	}()
	drift := make(chan error, 1)
	go func() { drift <- k.drift(ctx, event) }()
	asked := make(chan struct{})
	go func() {
		k.ground.ask(ctx, event)
		close(asked)
	}()
	known := map[string]bool{}
	err := rtnl.Watch(ctx, func(l rtnl.Link) {
		if !known[l.Name] { // a port may have come; the old names are as good where that can't be seen
			known[l.Name] = true
			if _, err := os.Stat(filepath.Join("/sys/class/net", l.Name, "device")); err == nil {
				_ = k.ground.look()
			}
		}
		if !l.Up && !l.Carrier { // it may be gone, and another one by this name come
			delete(known, l.Name)
		}
		if l.Up && l.Carrier {
			k.ground.asking.carrier(clock.Now(), l.Name)
		}
		for _, name := range k.ground.configured(l.Name) {
			event(ctx, agent.Carrier{Link: name, Up: l.Up && l.Carrier})
		}
		linked()
	})
	<-asked
	return errors.Join(err, <-parked, <-drift)
}

// settle is how long after a change it is told: changes come in swarms.
const settle = 100 * time.Millisecond

// drift tells that the network may have changed.
func (k *kernel) drift(ctx context.Context, event func(context.Context, agent.Event)) error {
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default: // it is to be told already
		}
	}
	watched := make(chan error, 1)
	go func() {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return rtnl.Changes(ctx, func(rtnl.What) { tell() }) })
		if k.ground.filter != nil {
			g.Go(func() error { return k.ground.filter.Watch(ctx, tell) })
		}
		watched <- g.Wait()
	}()
	for {
		select {
		case <-changed:
		case err := <-watched:
			return err
		}
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			return <-watched
		}
		select { // what came meanwhile is told with it
		case <-changed:
		default:
		}
		event(ctx, agent.Drifted{})
	}
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
