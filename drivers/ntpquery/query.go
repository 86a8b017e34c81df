package ntpquery

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/beevik/ntp"

	"komainu/ntp/nts"
	"komainu/ntp/source"
)

// attempts bounds how often one Query asks: a stale, forged or broken datagram
// that came first costs one, since the library reads one datagram per question.
const attempts = 3

// errReceived marks what a datagram caused, so that another question makes sense.
var errReceived = errors.New("discarded a datagram")

// Query asks a server once, from a port of its own and with a random origin. A
// datagram that doesn't belong to the question, or isn't authentic, is counted
// and the server asked anew, as long as Timeout lasts and at most two more
// times. A kiss (stratum 0) is a Reply, and so are stratum 16 and leap 3. Any
// error is an *Error.
func Query(ctx context.Context, t Target) (source.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	fail := func(err error) (source.Reply, error) {
		return source.Reply{}, &Error{Code: code(err), Server: t.Addr.String(), Err: err}
	}
	var bad error
	for range attempts {
		reply, err := ask(ctx, t)
		switch {
		case err == nil:
			return reply, nil
		case bad != nil && code(err) == Timeout:
			return fail(bad) // says more than that nothing else came
		case !errors.Is(err, errReceived):
			return fail(err)
		}
		bad = err
		if t.Discarded != nil {
			t.Discarded.Add(1)
		}
	}
	return fail(bad)
}

// ask sends one datagram and takes the first that comes back.
func ask(ctx context.Context, t Target) (source.Reply, error) {
	if err := ctx.Err(); err != nil {
		return source.Reply{}, err
	}
	deadline, _ := ctx.Deadline()
	opt := ntp.QueryOptions{Timeout: max(time.Until(deadline), time.Millisecond)} // 0 would mean 5 s
	if t.Key != nil {
		opt.Auth = auth(t.Key)
	}
	x := &exchange{}
	if t.NTS != nil {
		var err error
		if x.nts, t.Addr, err = t.NTS.keys(ctx, t.Addr); err != nil {
			return source.Reply{}, err
		}
	}
	conn, err := dial(t)
	if err != nil {
		return source.Reply{}, err
	}
	x.conn = conn
	opt.Extensions = []ntp.Extension{x}
	// A conn of any other type would lose the kernel's receive stamps.
	opt.Dialer = func(_, _ string) (net.Conn, error) { return conn, nil }
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		conn.Close()
	})
	r, err := ntp.QueryWithOptions(t.Addr.String(), opt) // closes conn
	if !stop() {
		<-closed
	}
	if ctx.Err() != nil && err != nil && !x.received {
		err = ctx.Err() // rather than a closed connection
	}
	if t.NTS != nil {
		t.NTS.stale = t.NTS.stale && err != nil || errors.Is(err, nts.ErrNAK)
		t.NTS.left.Store(int32(t.NTS.client.Cookies()))
	}
	return x.reply(r, err, t.Key != nil)
}

// dial makes the socket of one question, with a port of its own, that takes
// datagrams of the server's address and port only.
func dial(t Target) (*net.UDPConn, error) {
	var from *net.UDPAddr
	if t.Local.IsValid() {
		from = net.UDPAddrFromAddrPort(netip.AddrPortFrom(t.Local, 0))
	}
	conn, err := net.DialUDP("udp", from, net.UDPAddrFromAddrPort(t.Addr))
	if err != nil {
		return nil, err
	}
	if err := stampSends(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
