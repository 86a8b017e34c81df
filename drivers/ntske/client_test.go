package ntske

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"komainu/ntp/nts"
)

func TestDistrust(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	s, _ := newServer(t, a.issue(t, "ntp.example.jp", -time.Hour, time.Hour))
	ln := open(t)
	start(t, s, ln)
	try := func(c Client, name string) error {
		_, err := c.Handshake(context.Background(), ln.Addr().String(), name)
		if err == nil {
			t.Fatalf("%s: trusted", name)
		}
		return err
	}
	var unknown x509.UnknownAuthorityError
	if err := try(Client{Roots: other.pool()}, "ntp.example.jp"); !errors.As(err, &unknown) || !strings.Contains(err.Error(), "authority") {
		t.Error(err)
	}
	var name x509.HostnameError
	if err := try(Client{Roots: a.pool()}, "evil.example.jp"); !errors.As(err, &name) || !strings.Contains(err.Error(), "another name") {
		t.Error(err)
	}
	at := func(t time.Time) func() time.Time { return func() time.Time { return t } }
	later := Client{Roots: a.pool(), Now: at(time.Now().AddDate(1, 0, 0))}
	if err := try(later, "ntp.example.jp"); !errors.Is(err, ErrDates) || !strings.Contains(err.Error(), "has expired") {
		t.Error(err)
	}
	if err := try(Client{Roots: a.pool(), Now: at(time.Unix(0, 0))}, "ntp.example.jp"); !errors.Is(err, ErrDates) || !strings.Contains(err.Error(), "isn't valid yet") {
		t.Error(err)
	}
}

// TestClockOf1970: an expired certificate of the server is judged by the time
// that the caller gives.
func TestClockOf1970(t *testing.T) {
	a := newAuthority(t)
	s, ring := newServer(t, a.issue(t, "ntp.example.jp", -time.Hour, time.Hour))
	ln := open(t)
	start(t, s, ln)
	built := time.Now().Add(-30 * time.Minute)
	c := Client{Roots: a.pool(), Now: func() time.Time { return built }}
	r, err := c.Handshake(context.Background(), ln.Addr().String(), "ntp.example.jp")
	must(t, err)
	ask(t, r, ring)
}

func TestNoKEBehindThePort(t *testing.T) {
	a := newAuthority(t)
	cert := a.issue(t, "ntp.example.jp", -time.Hour, time.Hour)
	for name, c := range map[string]struct {
		serve func(net.Conn)
		want  error
	}{
		"TLS without ALPN": {func(c net.Conn) {
			srv := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
			_, _ = io.Copy(io.Discard, srv)
		}, ErrALPN},
		// Not a mere Close: with something unread, that is a reset.
		"hangs up": {func(c net.Conn) {
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		}, io.EOF},
		"TLS 1.2": {func(c net.Conn) {
			_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12}).Handshake()
		}, nil},
		"other name": {func(c net.Conn) {
			_, _ = c.Write([]byte("220 mail.example.jp ESMTP\r\n"))
			_, _ = io.Copy(io.Discard, c)
		}, nil},
		"garbage inside": {func(c net.Conn) {
			srv := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{nts.ALPN}})
			_, _ = srv.Write([]byte{0x80, 0, 0, 0})
			_, _ = io.Copy(io.Discard, srv)
		}, nts.ErrRecords},
		"half a response": {func(c net.Conn) {
			srv := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{nts.ALPN}})
			_, _ = srv.Write([]byte{0x80, 1, 0, 2, 0})
			_ = srv.CloseWrite()
			_, _ = io.Copy(io.Discard, srv)
		}, io.ErrUnexpectedEOF},
		"endless response": {func(c net.Conn) {
			srv := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{nts.ALPN}})
			for _, err := srv.Write([]byte{0, 99, 0, 0}); err == nil; _, err = srv.Write(bytes.Repeat([]byte{0, 99, 0, 0}, 1000)) {
			}
		}, errTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			ln := open(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				if conn, err := ln.Accept(); err == nil {
					c.serve(conn)
					conn.Close()
				}
			}()
			_, err := (&Client{Roots: a.pool()}).Handshake(context.Background(), ln.Addr().String(), "ntp.example.jp")
			ln.Close()
			<-done
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// TestClientIsPatientOnce: a server that never answers costs 10 s, a cancelled
// context nothing.
func TestClientIsPatientOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, there) }()
			return here, nil
		}
		c := Client{Roots: x509.NewCertPool(), Dial: silent}
		began := time.Now()
		_, err := c.Handshake(context.Background(), "a:4460", "a")
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != patience {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := c.Handshake(ctx, "a:4460", "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
