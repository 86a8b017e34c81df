package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"komainu/appliance/control"
	"komainu/drivers/ntpquery"
	"komainu/tools/lab"
)

// timeBound is how far the box's time may be from true time on its own
// network: what AT-172 leaves open, stated here.
const timeBound = 10 * time.Millisecond

// timeServed: clients of every attached network, v4 and v6, are told the time
// by the box beside them; the source is authenticated, and the box says whether
// it is a physical machine.
func timeServed(ctx context.Context, r *run) error {
	var said []string
	var worst time.Duration
	for _, x := range []struct {
		net  string
		from *lab.Host
		box  string
	}{
		{"office", r.Clients[0], lab.Hall4}, {"office v6", r.Clients[0], lab.Hall6},
		{"main line", r.Edge, lab.MainHall4}, {"main line v6", r.Edge, lab.MainHall6},
		{"alternative line", r.Edge, lab.AltHall4}, {"alternative line v6", r.Edge, lab.AltHall6},
		{"DC", r.DB, lab.Edge4}, {"DC v6", r.DB, lab.Edge6},
	} {
		q, err := askTime(ctx, x.from, x.box)
		if err != nil {
			r.row("AT-172", "each network asks the box beside it", fmt.Sprintf("%s: %v", x.net, err), false)
			return err
		}
		worst = max(worst, q.Offset.Abs())
		said = append(said, fmt.Sprintf("%s stratum %d", x.net, q.Stratum))
		if q.Offset.Abs() > timeBound || q.Offset.Abs() > q.RootDistance {
			r.row("AT-172", "each network asks the box beside it", fmt.Sprintf("%s: off by %v, it says %v", x.net, q.Offset, q.RootDistance), false)
			return nil
		}
	}
	var st control.TimeStatus
	if err := (control.Client{Socket: r.Hall.RunDir() + "/timed.sock"}).Get(ctx, control.TimePath, &st); err != nil {
		return err
	}
	trusted := len(st.Sources) > 0
	for _, s := range st.Sources {
		trusted = trusted && s.Auth == "key" && s.AuthOK
	}
	machine := "the box calls itself physical"
	if st.Virtual != "" {
		machine = "the box tells that this machine is virtual"
	}
	r.row("AT-172", "each attached network, v4 and v6, asks the box beside it; sources by key",
		fmt.Sprintf("%s; offset at most %v; sources authenticated: %t; %s", strings.Join(said, ", "), worst.Round(time.Microsecond), trusted, machine), trusted)
	return nil
}

// askTime asks a box for the time from a host, until it is synchronised.
func askTime(ctx context.Context, from *lab.Host, box string) (rep ntpquery.Report, err error) {
	for {
		e := from.Do(func() error {
			rep, err = ntpquery.Probe(ctx, net.JoinHostPort(box, "123"), ntpquery.Options{Samples: 4, Pause: 20 * time.Millisecond})
			return nil
		})
		if e != nil {
			return rep, e
		}
		if err == nil && rep.Leap != 3 && rep.Stratum > 0 && rep.Stratum < 16 {
			return rep, nil
		}
		select {
		case <-ctx.Done():
			return rep, fmt.Errorf("%s: not synchronised (stratum %d, leap %d): %w", box, rep.Stratum, rep.Leap, errors.Join(ctx.Err(), err))
		case <-time.After(200 * time.Millisecond): // it answers that it isn't synchronised: nothing to wait on
		}
	}
}
