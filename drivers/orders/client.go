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

// Client asks other boxes. It keeps one connection to each, so that an order
// in an emergency needs no handshake. All methods may be used at once; requests
// to one box wait for each other.
type Client struct {
	TLS *tls.Config // of Load
	// Dialer opens connections; its LocalAddr and Control choose the path.
	Dialer net.Dialer

	mu    sync.Mutex
	boxes map[string]*box
}

// box is the connection to one address and server name; turn is a lock that a
// ctx can give up waiting for.
type box struct {
	turn chan struct{}
	c    *tls.Conn
	r    *bufio.Reader
}

// Do sends in to the box at addr (host:port), whose certificate must be for
// serverName, and reads its answer into out (nil: not wanted). It returns at the
// latest when ctx ends; ctx should have a deadline. Errors: *Refusal when the other
// box answered so; with any other error the request may or may not have been
// carried out: repeat it with the same id, or observe.
func (c *Client) Do(ctx context.Context, addr, serverName string, in, out any) error {
	line, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("order to %s: %w", serverName, err)
	}
	b := c.box(addr + "/" + serverName)
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("order to %s at %s: an earlier one is still under way: %w", serverName, addr, ctx.Err())
	}
	defer func() { <-b.turn }()
	a, err := c.ask(ctx, b, addr, serverName, append(line, '\n'))
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err() // the closed connection is only how it shows
		}
		return fmt.Errorf("order to %s at %s: %w", serverName, addr, err)
	}
	if a.Refused != nil {
		return a.Refused
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(a.Result, out); err != nil {
		return fmt.Errorf("order to %s at %s: answer: %w", serverName, addr, err)
	}
	return nil
}

func (c *Client) box(key string) *box {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.boxes[key]
	if !ok {
		b = &box{turn: make(chan struct{}, 1)}
		if c.boxes == nil {
			c.boxes = map[string]*box{}
		}
		c.boxes[key] = b
	}
	return b
}

// ask makes one exchange. A kept connection may have been closed by the other
// box meanwhile; that shows at once, and the request is repeated on a new one.
func (c *Client) ask(ctx context.Context, b *box, addr, serverName string, line []byte) (answer, error) {
	if b.c != nil {
		a, err := b.exchange(ctx, line)
		if err == nil || ctx.Err() != nil {
			return a, err
		}
	}
	d := tls.Dialer{NetDialer: &c.Dialer, Config: c.TLS.Clone()}
	d.Config.ServerName = serverName
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return answer{}, err
	}
	b.c = conn.(*tls.Conn)
	b.r = bufio.NewReader(b.c)
	return b.exchange(ctx, line)
}

// exchange drops the connection on any fault, and when ctx ends: a late answer
// must not be taken for the next one.
func (b *box) exchange(ctx context.Context, line []byte) (a answer, err error) {
	conn := b.c
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			b.c = nil
			_ = conn.NetConn().Close() // given up anyway
		}
	}()
	if _, err := conn.Write(line); err != nil {
		return a, err
	}
	reply, err := readLine(b.r)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(reply, &a)
}

// Close hangs up everywhere, after what is under way. The client may be used
// again.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for _, b := range c.boxes {
		b.turn <- struct{}{}
		if b.c != nil {
			err = errors.Join(err, b.c.NetConn().Close())
			b.c = nil
		}
		<-b.turn
	}
	return err
}
