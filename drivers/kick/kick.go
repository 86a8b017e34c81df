// Package kick resets clients that wait silently on connections whose server is
// gone: they are blocked in a read, send nothing, and so never learn that their
// flow was deleted. It decides nothing; flows come from drivers/conntrack, taken
// before the switch.
//
// A SYN with any sequence number, sent in the service's name, makes the client
// answer with a pure ACK that carries the sequence it expects (challenge ACK,
// RFC 5961, 4.2); a RST with exactly that sequence ends the connection (3.2). A
// client whose own SYN was never answered replies to the SYN with a SYN+ACK
// instead (simultaneous open, RFC 9293, 3.5), and is reset the same way.
//
// Packets go out over AF_PACKET, past netfilter: it would translate them.
package kick

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/conntrack"
)

// Rounds and pauses. Linux answers with a challenge ACK at most once per 500 ms
// and socket (tcp_invalid_ratelimit), so an earlier retry is wasted.
const (
	rounds = 3
	pause  = 550 * time.Millisecond
	last   = 150 * time.Millisecond // after the last round
)

// Result says what became of the clients. Flows that can't be kicked (not TCP,
// closing, or the box's own) are in neither number.
type Result struct {
	Reset      int           // answered, and a reset was sent
	Unanswered int           // silent in every round: powered off, or no neighbour
	Max        time.Duration // from the call to the last reset
}

// peer is the client's end of a flow and the service's end, as the client knows it.
type peer struct{ client, service netip.AddrPort }

// Kick resets the clients of flows and returns when all have answered, after
// three rounds (1.25 s at most), or with ctx. It works in the network namespace
// of the calling thread. Needs CAP_NET_RAW and CAP_NET_ADMIN.
func Kick(ctx context.Context, flows []conntrack.Flow) (Result, error) {
	start := time.Now()
	waiting := map[peer]bool{}
	for _, f := range flows {
		if f.Protocol == unix.IPPROTO_TCP && f.State != conntrack.TimeWait && f.State != conntrack.Close {
			waiting[peer{f.Original.Source, f.Original.Destination}] = true
		}
	}
	if len(waiting) == 0 {
		return Result{}, nil
	}
	w, err := openWire()
	if err != nil {
		return Result{}, fmt.Errorf("kick %d clients: %w", len(waiting), err)
	}
	defer w.close()
	defer context.AfterFunc(ctx, func() { w.packets.SetReadDeadline(time.Unix(1, 0)) })()

	var r Result
	links := map[netip.Addr]link{}
	for round := range rounds {
		if err := w.resolve(waiting, links); err != nil {
			return r, fmt.Errorf("kick %d clients: %w", len(waiting), err)
		}
		for p := range waiting {
			if to, ok := links[p.client.Addr()]; ok {
				// A client that can't be sent to stays unanswered.
				_ = w.send(to, p, segment{syn: true})
			}
		}
		wait := pause
		if round == rounds-1 {
			wait = last
		}
		w.packets.SetReadDeadline(time.Now().Add(wait))
		for len(waiting) > 0 && ctx.Err() == nil {
			p, expected, err := w.receive()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return r, fmt.Errorf("kick: wait for %d clients: %w", len(waiting), err)
			}
			if !waiting[p] {
				continue
			}
			if err := w.send(links[p.client.Addr()], p, segment{seq: expected, rst: true}); err != nil {
				continue // the next round tries again
			}
			delete(waiting, p)
			r.Reset++
			r.Max = time.Since(start)
		}
		if len(waiting) == 0 || ctx.Err() != nil {
			break
		}
	}
	r.Unanswered = len(waiting)
	return r, ctx.Err()
}
