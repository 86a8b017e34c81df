// Package ntpio carries an NTP server's datagrams: one UDP socket per address,
// received and sent in batches, with the kernel's time stamps on the way in
// and, where the handler asks for one, on the way out. It allocates nothing per
// request. It knows no NTP and holds no policy: the handler decides who is
// answered, and what. Start reading at Listen and socket.serve.
package ntpio

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"

	"komainu/ntp/wall"
)

// MaxRequest is the largest datagram that reaches a handler, in bytes: more
// than any NTP packet that crosses an Ethernet in one piece.
const MaxRequest = 2048

// Handler answers datagrams. Its calls never overlap, whatever the number of
// sockets, and must return at once. It keeps none of the slices.
type Handler interface {
	// Respond writes the reply to req into out and returns its length, 0 for no
	// reply. out is as long as req, so that a reply is never longer than its
	// request (TIM-4). rx is the kernel's time stamp of the request's arrival, now
	// the moment at which the reply is expected to leave. from's IPv6 addresses
	// have no zone. A token other than 0 asks for the time stamp of the reply's
	// departure, of which Sent tells.
	Respond(req []byte, rx, now wall.Time, from netip.AddrPort, out []byte) (n int, token uint64)
	// Sent tells when the reply with this token left, as the kernel or the network
	// interface saw it. A reply whose time stamp is lost is never told of.
	Sent(token uint64, tx wall.Time)
}

// Endpoint is where one socket listens.
type Endpoint struct {
	// Local is the address, which may come up later, and the port. Replies leave
	// from the address that was asked, also if it is unspecified (0.0.0.0, ::),
	// which stands for all of its family.
	Local netip.AddrPort
	// Interface is the only one from which requests are taken; empty for all. When
	// it is removed and made again, the socket must be opened again.
	Interface string
}

// Config is what a server listens on.
type Config struct {
	Endpoints []Endpoint // one at least
}

// Server is the open sockets.
type Server struct {
	sockets []*socket
	nics    []*nic     // that stamp packets
	guard   sync.Mutex // around the handler
}

// Listen opens the sockets, all of them or none. Ports below 1024 need
// CAP_NET_BIND_SERVICE, an Interface on kernels before 5.7 CAP_NET_RAW.
//
// Where the interface of an endpoint, given or known by its address, can stamp
// all packets by a clock that the kernel can compare with its own, and
// CAP_NET_ADMIN lets it be told so, its stamps are used. The wall clock is
// still the reference: the interface's own clock is never set.
func Listen(cfg Config) (*Server, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("listen for NTP: no address given")
	}
	s := &Server{}
	for _, e := range cfg.Endpoints {
		k, err := open(e, &s.guard)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.sockets = append(s.sockets, k)
		k.why = s.stamp(k, e)
	}
	return s, nil
}

// stamp lets the interface of a socket stamp its packets, if it can.
func (s *Server) stamp(k *socket, e Endpoint) error {
	name, err := e.at()
	if err != nil {
		return err
	}
	for _, n := range s.nics {
		if n.name == name {
			return k.by(n)
		}
	}
	n, err := stamping(k.fd, name)
	if err != nil {
		return err
	}
	s.nics = append(s.nics, n)
	return k.by(n)
}

// Stamping is which interface stamps the packets of the socket with this index
// of Addrs; empty if it is the kernel, and then why.
func (s *Server) Stamping(i int) (nic string, why error) {
	k := s.sockets[i]
	if k.nic == nil {
		return "", k.why
	}
	return k.nic.name, nil
}

// Run serves until ctx ends, then closes the sockets and returns nil; it returns
// early, with an error, if a socket fails. It is called once.
//
// A busy socket's goroutine keeps a P (a slot of GOMAXPROCS) while it waits in
// the kernel, since giving it back costs more than a request does. So Run sees
// to it that there are two more than sockets.
func (s *Server) Run(ctx context.Context, h Handler) error {
	if procs := len(s.sockets) + 2; runtime.GOMAXPROCS(0) < procs {
		runtime.GOMAXPROCS(procs)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		for _, k := range s.sockets {
			k.stop()
		}
	})
	errs := make([]error, len(s.sockets))
	var tasks sync.WaitGroup
	for _, n := range s.nics {
		tasks.Go(func() { n.run(ctx) })
	}
	for i, k := range s.sockets {
		tasks.Go(func() {
			errs[i] = k.serve(h)
			cancel() // the others too
		})
	}
	tasks.Wait()
	stop()
	return errors.Join(append(errs, s.Close())...)
}

// Exclusive runs f while no call of the handler is under way, so that f may
// look at what the handler keeps. Requests wait meanwhile.
func (s *Server) Exclusive(f func()) {
	s.guard.Lock()
	defer s.guard.Unlock()
	f()
}

// Close closes sockets that aren't running; Run closes its own.
func (s *Server) Close() error {
	var errs []error
	for _, k := range s.sockets {
		errs = append(errs, k.close())
	}
	for _, n := range s.nics {
		errs = append(errs, n.close())
	}
	return errors.Join(errs...)
}

// Addrs are the addresses that the sockets are bound to, in the order of the
// configuration.
func (s *Server) Addrs() []netip.AddrPort {
	var all []netip.AddrPort
	for _, k := range s.sockets {
		all = append(all, k.local)
	}
	return all
}

// Stats counts what happened since Listen.
type Stats struct {
	Received  uint64 // datagrams that the handler saw
	Sent      uint64 // replies that the kernel took
	Unsent    uint64 // replies that it did not take: no route, line full, firewall
	Oversized uint64 // longer than MaxRequest, not shown to the handler
	Unstamped uint64 // came without a time stamp, not shown to the handler
	Elsewhere uint64 // sent to a broadcast or multicast address, not shown to the handler
	Dropped   uint64 // by the kernel: the queue of the socket was full
	Stamps    uint64 // departures of which the handler was told
	Lost      uint64 // departures of which it had asked to be told, and never will be
}

// Stats returns the counters of the socket with this index of Addrs.
func (s *Server) Stats(i int) (Stats, error) {
	k := s.sockets[i]
	dropped, err := k.dropped()
	if err != nil {
		return Stats{}, fmt.Errorf("count the dropped requests to %v: %w", k.local, err)
	}
	c := &k.counters
	return Stats{Received: c.received.Load(), Sent: c.sent.Load(), Unsent: c.unsent.Load(), Oversized: c.oversized.Load(),
		Unstamped: c.unstamped.Load(), Elsewhere: c.elsewhere.Load(), Dropped: dropped, Stamps: c.stamps.Load(), Lost: k.departures.lost.Load()}, nil
}
