package ntske

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"komainu/ntp/nts"
)

// patience is how long a whole key exchange may take.
const patience = 10 * time.Second

// Port is the TCP port of key exchanges (RFC 8915 section 7.1).
const Port = 4460

// ErrALPN says that a server speaks TLS 1.3 but not NTS-KE.
var ErrALPN = errors.New("the server speaks TLS but no NTS-KE (ALPN ntske/1): is it the right port?")

// Client fetches keys and cookies from key-exchange servers.
type Client struct {
	// Roots are the authorities whose certificates are believed; nil: the system's.
	Roots *x509.CertPool

	// Now is the time at which certificates are judged; nil: the box's clock. A
	// box whose clock starts in 1970 can't judge dates by it: give it a time that
	// is surely past, such as that of the program's build or of the drift file, and
	// only certificates that began after it are refused wrongly. All other checks
	// are the same. What then comes from the server is as old as an attacker with
	// an expired certificate's key likes, so repeat the exchange when the clock is set.
	Now func() time.Time

	// Dial connects; nil: a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Result is what a key exchange brought.
type Result struct {
	Keys    nts.Keys
	Cookies [][]byte  // 1..8, for nts.NewClient
	Server  string    // name or address of the time server to ask
	Port    uint16    // its UDP port
	Ends    time.Time // when the server's certificate does
}

// Handshake exchanges keys with the server at addr, a host and a port, whose
// certificate must be good for serverName, a name or an address. It takes 10 s at
// most. Errors: ErrDates, ErrALPN, what nts.ParseResponse returns, and those of
// net and TLS; each says what was tried.
func (c *Client) Handshake(ctx context.Context, addr, serverName string) (*Result, error) {
	r, err := c.exchange(ctx, addr, serverName)
	if err != nil {
		return nil, fmt.Errorf("NTS key exchange with %s (%s): %w", serverName, addr, err)
	}
	return r, nil
}

func (c *Client) exchange(ctx context.Context, addr, serverName string) (*Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no end within %v: %w", patience, os.ErrDeadlineExceeded))
	defer cancel()
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	plain, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = plain.Close() })
	defer stop()
	now := c.Now
	if now == nil {
		now = time.Now
	}
	conn := tls.Client(plain, &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{nts.ALPN},
		ServerName: serverName,
		RootCAs:    c.Roots,
		Time:       now,
	})
	defer conn.Close()
	resp, err := converse(ctx, conn)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, explain(err, now())
	}
	a, err := nts.ParseResponse(resp)
	if err != nil {
		return nil, err
	}
	cs := conn.ConnectionState()
	keys, err := exported(&cs)
	if err != nil {
		return nil, err
	}
	r := &Result{Keys: *keys, Cookies: a.Cookies, Server: a.Server, Port: a.Port, Ends: cs.PeerCertificates[0].NotAfter}
	if r.Server == "" { // RFC 8915 section 4.1.7: the address of the key exchange, not its name
		if r.Server, _, err = net.SplitHostPort(plain.RemoteAddr().String()); err != nil {
			return nil, fmt.Errorf("time server of %s: %w", plain.RemoteAddr(), err)
		}
	}
	return r, nil
}

func converse(ctx context.Context, conn *tls.Conn) ([]byte, error) {
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if conn.ConnectionState().NegotiatedProtocol != nts.ALPN {
		return nil, ErrALPN
	}
	if _, err := conn.Write(nts.Request()); err != nil {
		return nil, err
	}
	resp, err := readMessage(conn, nts.MaxResponse)
	if err != nil {
		return nil, fmt.Errorf("read the response: %w", err)
	}
	return resp, nil
}

// explain puts what operators meet into words.
func explain(err error, now time.Time) error {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		if d := dates(invalid.Cert, now); d != nil {
			return d
		}
		return err
	case errors.As(err, &unknown):
		return fmt.Errorf("no authority that this box believes has signed the server's certificate; give it the server's: %w", err)
	case errors.As(err, &name):
		return fmt.Errorf("the server's certificate is for another name: %w", err)
	default:
		return err
	}
}
