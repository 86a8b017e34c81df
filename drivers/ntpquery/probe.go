package ntpquery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"komainu/drivers/clock"
	"komainu/drivers/ntske"
	"komainu/ntp/instant"
	"komainu/ntp/keys"
	"komainu/ntp/packet"
	"komainu/ntp/source"
)

// Options are how Probe asks.
type Options struct {
	Local   netip.Addr    // to ask from; the zero Addr leaves it to the kernel
	Timeout time.Duration // of each question; 0: 2 s, with NTS 10 s
	Samples int           // questions; 0: 4
	Pause   time.Duration // between questions; 0: 200 ms
	Key     *keys.Key     // symmetric key, or nil
	NTS     *ntske.Client // NTS with the host's own key exchange, or nil; not together with Key
	KEPort  uint16        // TCP port of the key exchange; 0: ntske.Port
}

// Report is what Probe found out about one server. All but Server, Sent and
// Answered are of the answer with the shortest delay.
type Report struct {
	Name           string         // as asked for
	Server         netip.AddrPort // the address that was asked
	Sent, Answered int            // questions, and answers with time in them
	Offset         time.Duration  // positive: our clock is behind the server's
	Delay          time.Duration  // round trip without the server's own time
	Stratum        uint8          // 16 or 0: it has no time to give
	Leap           uint8          // 0..3; 3: not synchronised
	Precision      int8           // log2 of seconds
	RootDelay      time.Duration
	RootDispersion time.Duration
	RootDistance   time.Duration // the largest error that the server and the way to it admit (RFC 5905 appendix A.5.5.2)
	Reference      string        // clock of a stratum 1, else an address or its hash in dots
	Kiss           string        // of the last answer that was a kiss; empty: none
	Discarded      int           // datagrams that were no answers, or not authentic
	Authenticated  bool          // all answers with time were
}

// Probe asks a server some times and reports its best answer. host is a name or
// an address, with or without a port; of a name with several addresses the first
// one that answers is reported. Without time in any answer the error is the *Error of
// the last question, and the Report says what is known nevertheless.
func Probe(ctx context.Context, host string, o Options) (Report, error) {
	name, port, err := split(host)
	report := Report{Name: name}
	if err != nil {
		return report, &Error{Code: Unreachable, Server: host, Err: err}
	}
	addrs, err := Resolve(ctx, name)
	if err != nil {
		return report, err
	}
	for _, a := range addrs {
		if report, err = probe(ctx, name, netip.AddrPortFrom(a, port), o); err == nil || ctx.Err() != nil {
			break
		}
	}
	return report, err
}

// split takes the port off, 123 if there is none.
func split(host string) (name string, port uint16, err error) {
	if _, err := netip.ParseAddr(host); err == nil {
		return host, 123, nil // the colons of IPv6 too
	}
	name, text, err := net.SplitHostPort(host)
	var missing *net.AddrError
	if errors.As(err, &missing) && missing.Err == "missing port in address" {
		return strings.Trim(host, "[]"), 123, nil
	} else if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%q is no port", text)
	}
	return name, uint16(n), nil
}

func probe(ctx context.Context, name string, server netip.AddrPort, o Options) (Report, error) {
	discarded := new(atomic.Int64)
	t := Target{Addr: server, Local: o.Local, Timeout: cmp.Or(o.Timeout, 2*time.Second), Key: o.Key, Discarded: discarded}
	if o.NTS != nil {
		t.Timeout = cmp.Or(o.Timeout, 10*time.Second)
		t.NTS = NewSession(ExchangeWith(o.NTS, netip.AddrPortFrom(server.Addr(), cmp.Or(o.KEPort, ntske.Port)), name))
	}
	report := Report{Name: name, Server: server}
	pause, err := clock.NewTimer()
	if err != nil {
		return report, &Error{Code: Unreachable, Server: server.String(), Err: err}
	}
	defer pause.Close()
	var failed error
	for range cmp.Or(o.Samples, 4) {
		if report.Sent == 2 && report.Answered == 0 && report.Kiss == "" {
			break // don't try people's patience
		}
		if report.Sent > 0 && !await(ctx, pause, clock.Now().Add(cmp.Or(o.Pause, 200*time.Millisecond))) {
			break
		}
		report.Sent++
		switch reply, err := Query(ctx, t); {
		case err != nil:
			failed = err
			if errors.Is(err, errNoKeys) {
				return report, err // another exchange would have to wait
			}
		case reply.Kiss != "":
			report.Kiss = reply.Kiss
		default:
			report.take(reply)
		}
	}
	report.Discarded = int(discarded.Load())
	if t.NTS != nil && t.NTS.client != nil {
		report.Server = t.NTS.server
	}
	switch {
	case report.Answered > 0:
		return report, nil
	case report.Kiss != "":
		return report, &Error{Code: Kiss, Server: report.Server.String(), Err: errors.New(report.Kiss)}
	}
	return report, failed
}

// await waits for an instant; false: ctx ended before.
func await(ctx context.Context, timer *clock.Timer, at instant.Instant) bool {
	if err := timer.Reset(at); err != nil {
		return false
	}
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	}
}

// take keeps the best answer.
func (r *Report) take(reply source.Reply) {
	delay := max(reply.Received.Sub(reply.Sent)-reply.ServerSent.Sub(reply.ServerReceived), 0)
	r.Authenticated = reply.Authenticated && (r.Authenticated || r.Answered == 0)
	r.Answered++
	if r.Answered > 1 && delay >= r.Delay {
		return
	}
	r.Delay = delay
	r.Offset = reply.ServerReceived.Sub(reply.Sent)/2 + reply.ServerSent.Sub(reply.Received)/2
	r.Stratum, r.Leap, r.Precision = reply.Stratum, reply.Leap, reply.Precision
	r.RootDelay, r.RootDispersion = reply.RootDelay, reply.RootDispersion
	r.RootDistance = (reply.RootDelay+delay)/2 + reply.RootDispersion
	r.Reference = reference(reply.Stratum, reply.RefID)
}

// reference is a reference identifier for people (RFC 5905 figure 12); empty for
// none.
func reference(stratum uint8, id uint32) string {
	if id == 0 {
		return ""
	}
	if stratum <= 1 {
		if letters := packet.Letters(id); letters != "" {
			return letters
		}
	}
	return netip.AddrFrom4([4]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}).String()
}
