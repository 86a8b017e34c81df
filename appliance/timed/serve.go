package timed

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"komainu/appliance/control"
	"komainu/drivers/ntpio"
	"komainu/ntp/packet"
	"komainu/ntp/server"
	"komainu/ntp/wall"
)

// tableSize is how many clients are remembered, 128 octets each. A prefecture
// has some 20,000 (fixed, so that a flood of forged addresses costs nothing).
const tableSize = 32768

// serving is the server's side of the daemon.
type serving struct {
	state atomic.Pointer[server.State] // published last
	rules atomic.Pointer[server.Rules] // set last
	core  *server.Server               // used by the handler, and within Exclusive
}

// handler joins the sockets and the core.
type handler struct {
	*serving
	state *server.State // that the core has
	rules *server.Rules
}

// Respond is ntpio.Handler's.
func (h *handler) Respond(req []byte, rx, now wall.Time, from netip.AddrPort, out []byte) (int, uint64) {
	if s := h.serving.state.Load(); s != h.state {
		h.state = s
		h.core.SetState(s)
	}
	if r := h.serving.rules.Load(); r != h.rules {
		h.rules = r
		h.core.SetRules(*r)
	}
	r := h.core.Respond(req, rx, now, from, out)
	return r.N, uint64(r.Stamp)
}

// Sent is ntpio.Handler's.
func (h *handler) Sent(token uint64, tx wall.Time) { h.core.Sent(packet.Timestamp(token), tx) }

// random fills b for keys, nonces and cookies.
func random(b []byte) { _, _ = rand.Read(b) } // never fails, see crypto/rand

// open opens the sockets, all of them or none.
func (d *Daemon) open() error {
	if len(d.cfg.Listen) == 0 {
		return nil
	}
	c := ntpio.Config{}
	for _, l := range d.cfg.Listen {
		c.Endpoints = append(c.Endpoints, ntpio.Endpoint{Local: l})
	}
	var seed [16]byte
	random(seed[:])
	d.serving.core = server.New(tableSize, [2]uint64{binary.NativeEndian.Uint64(seed[:]), binary.NativeEndian.Uint64(seed[8:])}, random)
	rules := d.cfg.Rules
	if err := d.openNTS(&rules); err != nil {
		return err
	}
	d.serving.rules.Store(&rules)
	d.serving.state.Store(&server.State{Leap: 3, Stratum: 16})
	s, err := ntpio.Listen(c)
	if err != nil {
		return fmt.Errorf("serve time: %w", err)
	}
	d.socket = s
	return nil
}

// close closes what open opened, as long as serve has not begun.
func (d *Daemon) close() error {
	err := d.closeNTS()
	if d.socket != nil {
		err = errors.Join(err, d.socket.Close())
	}
	return err
}

// serve answers clients until ctx ends.
func (d *Daemon) serve(ctx context.Context) {
	if d.socket == nil {
		return
	}
	d.group.Go(func() error { return d.socket.Run(ctx, &handler{serving: &d.serving}) })
	d.serveNTS(ctx)
}

// stepped tells the core that stamps from before mean nothing now.
func (d *Daemon) stepped() {
	if d.socket != nil {
		d.socket.Exclusive(d.serving.core.Stepped)
	}
}

// serverStatus is the server's side for people and monitoring.
func (d *Daemon) serverStatus() control.TimeServer {
	st := control.TimeServer{Listen: []string{}, Requests: map[string]uint64{}, Drops: map[string]uint64{}, Stamps: "kernel"}
	if d.socket == nil {
		return st
	}
	var c server.Counters
	d.socket.Exclusive(func() { c = d.serving.core.Counters() })
	for o := range server.Outcome(server.Outcomes) {
		counts := st.Drops
		if o == server.Plain || o == server.Keyed || o == server.NTSServed {
			counts = st.Requests
		}
		counts[o.String()] = c.V4[o] + c.V6[o]
	}
	st.Requests["interleaved"] = c.Interleaved // kinds exclude each other
	st.Requests["plain"] -= c.Interleaved
	for i, a := range d.socket.Addrs() {
		st.Listen = append(st.Listen, a.String())
		if nic, _ := d.socket.Stamping(i); nic != "" {
			st.Stamps = "hardware"
		}
		s, err := d.socket.Stats(i)
		if err != nil {
			continue // closed: the daemon is stopping
		}
		st.Drops["oversized"] += s.Oversized
		st.Drops["queue-full"] += s.Dropped
		st.Drops["unsent"] += s.Unsent
		st.Drops["unstamped"] += s.Unstamped
		st.Drops["broadcast"] += s.Elsewhere
	}
	st.Clients = int(c.Clients)
	return st
}

// clients are the n busiest.
func (d *Daemon) clients(n int) control.TimeClients {
	out := control.TimeClients{Time: time.Now(), Clients: []control.TimeClient{}}
	if d.socket == nil {
		return out
	}
	var all []server.Client
	d.socket.Exclusive(func() {
		all = d.serving.core.Busiest(n)
		out.Total = int(d.serving.core.Counters().Clients)
	})
	for _, c := range all {
		x := control.TimeClient{Address: c.Addr.String(), Requests: uint64(c.Requests), Drops: uint64(c.Refused), Interleaved: c.Interleaved, Auth: "none",
			LastAgeS: out.Time.Sub(time.Unix(0, int64(c.Last))).Seconds()}
		if c.Requests > 1 {
			x.IntervalS = c.Last.Sub(c.First).Seconds() / float64(c.Requests-1)
		}
		switch {
		case c.NTS:
			x.Auth = "nts"
		case c.Keyed:
			x.Auth = "key"
		}
		out.Clients = append(out.Clients, x)
	}
	return out
}
