package orders

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Handler answers one request of the named peer. A *Refusal among its error
// reaches the peer as it is, any other error with code "internal". ctx ends
// when the peer hangs up or the server stops.
type Handler func(ctx context.Context, peer string, body json.RawMessage) (any, error)

// Serve answers on ln until ctx ends, then closes it, hangs up and waits for the
// handlers. A peer without a certificate of cfg's authority, or with one that has
// no common name, is hung up on.
func Serve(ctx context.Context, ln net.Listener, cfg *tls.Config, handle Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() {
		<-ctx.Done()
		_ = ln.Close() // ends Accept, which reports what matters
	})
	for {
		c, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				err = c.Close()
			}
			return nonClosed(err)
		}
		if err != nil {
			return fmt.Errorf("orders: accept on %s: %w", ln.Addr(), err)
		}
		running.Go(func() { serveOne(ctx, tls.Server(c, cfg), handle) })
	}
}

func nonClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// serveOne serves a connection to its end. Faults of the line end it; the client
// sees that and repeats itself, nobody else has to know.
func serveOne(ctx context.Context, c *tls.Conn, handle Handler) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.NetConn().Close() })
	defer stop()
	defer c.Close() // a close_notify that doesn't get through changes nothing

	if c.SetDeadline(time.Now().Add(patient)) != nil || c.HandshakeContext(ctx) != nil {
		return
	}
	peer := c.ConnectionState().PeerCertificates[0].Subject.CommonName
	if peer == "" {
		return
	}
	lines := make(chan []byte)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer cancel() // before the wait: it closes the connection under the reader
	reader.Go(func() {
		defer cancel() // the peer hung up: a running handler hears of it
		readLines(ctx, c, lines)
	})
	for {
		select {
		case <-ctx.Done():
			return
		case line := <-lines:
			if reply(ctx, c, peer, line, handle) != nil {
				return
			}
		}
	}
}

func readLines(ctx context.Context, c *tls.Conn, lines chan<- []byte) {
	for r := bufio.NewReader(c); ; {
		if c.SetReadDeadline(time.Now().Add(idle)) != nil {
			return
		}
		line, err := readLine(r)
		if err != nil {
			return
		}
		select {
		case lines <- line:
		case <-ctx.Done():
			return
		}
	}
}

func reply(ctx context.Context, c *tls.Conn, peer string, line []byte, handle Handler) error {
	var a answer
	result, err := handle(ctx, peer, line)
	if err == nil {
		a.Result, err = json.Marshal(result)
	}
	if err != nil && !errors.As(err, &a.Refused) {
		a.Refused = &Refusal{Code: "internal", Args: []string{err.Error()}}
	}
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if err := c.SetWriteDeadline(time.Now().Add(patient)); err != nil {
		return err
	}
	_, err = c.Write(append(b, '\n'))
	return err
}
