// Package probe asks a service, in its own protocol, whether it answers. One
// call is one question with a deadline; how often, and what the answers mean,
// is decided elsewhere (failover/detect). Start reading at Prober.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

// Prober asks one service. Probe must not be called by two goroutines at a
// time; Close comes after the last Probe.
type Prober interface {
	// Probe asks once. It ends at the prober's timeout or with ctx.
	Probe(ctx context.Context) Result
	Close()
}

// Result is the outcome of one probe.
type Result struct {
	OK         bool
	Latency    time.Duration // from the call to the answer
	InRecovery bool          // postgres: it answered as a standby
	// Code is why not, empty if OK: "timeout", "refused", "reset",
	// "unreachable", "tls", "protocol", a five-character SQLSTATE or an HTTP
	// status; "cancelled" if ctx ended, which says nothing about the service.
	Code string
	Err  error // the same in words, nil if OK
}

// Target is where a service is and how it is reached.
type Target struct {
	Address   netip.AddrPort
	Source    netip.Addr    // our address; zero: the kernel chooses
	Interface string        // leave by this one; empty: by the routes
	Timeout   time.Duration // of one probe; 0: 1 s
}

func (t Target) timeout() time.Duration {
	if t.Timeout == 0 {
		return time.Second
	}
	return t.Timeout
}

func (t Target) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{}
	if t.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(t.Source, 0))
	}
	if t.Interface != "" {
		d.Control = func(_, _ string, raw syscall.RawConn) error {
			var set error
			if err := raw.Control(func(fd uintptr) { set = unix.BindToDevice(int(fd), t.Interface) }); err != nil {
				return err
			}
			if set != nil {
				return fmt.Errorf("bind to interface %s: %w", t.Interface, set)
			}
			return nil
		}
	}
	return d.DialContext(ctx, "tcp", t.Address.String())
}

// run asks by f under the target's deadline and puts the outcome into words.
func (t Target) run(ctx context.Context, kind string, f func(ctx context.Context) (inRecovery bool, err error)) Result {
	start := time.Now()
	limited, cancel := context.WithTimeout(ctx, t.timeout())
	defer cancel()
	inRecovery, err := f(limited)
	r := Result{OK: err == nil, Latency: time.Since(start), InRecovery: inRecovery}
	if err != nil {
		r.Code = code(err)
		if ctx.Err() != nil {
			r.Code = "cancelled"
		}
		r.Err = fmt.Errorf("%s probe of %v: %w", kind, t.Address, err)
	}
	return r
}

// errStatus is an HTTP status that is a failure.
type errStatus int

func (e errStatus) Error() string { return fmt.Sprintf("HTTP status %d", int(e)) }

// errTLS marks what went wrong in a TLS handshake.
var errTLS = errors.New("TLS")

func code(err error) string {
	var answer *pgconn.PgError
	var status errStatus
	var timeout net.Error
	switch {
	case errors.As(err, &answer):
		return answer.Code
	case errors.As(err, &status):
		return fmt.Sprint(int(status))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, unix.ECONNREFUSED):
		return "refused"
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		return "reset"
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETDOWN),
		errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.ENODEV):
		return "unreachable"
	case errors.Is(err, errTLS):
		return "tls"
	}
	return "protocol"
}

// TCP returns a prober that connects and closes.
func TCP(t Target) Prober { return tcp{t} }

type tcp struct{ target Target }

func (p tcp) Probe(ctx context.Context) Result {
	return p.target.run(ctx, "tcp", func(ctx context.Context) (bool, error) {
		conn, err := p.target.dial(ctx)
		if err != nil {
			return false, err
		}
		return false, conn.Close()
	})
}

func (tcp) Close() {}
