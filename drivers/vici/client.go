package vici

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Client runs commands over one connection, which is made when it is needed and
// made again after it broke, as when charon was started again. All methods may
// be used at once; they take their turns. Errors: ErrAbsent, ErrSilent (the
// connection is given up then), *RefusedError, ctx's.
type Client struct {
	Socket string
	// Within bounds every command; 0: 5 s. A sooner deadline of ctx counts.
	Within time.Duration

	turn chan struct{} // capacity 1: who has put something in has the connection
	once sync.Once
	conn *conn
}

// Close closes the connection; the next command makes another.
func (c *Client) Close() {
	if c.lock(context.Background()) == nil {
		c.drop()
		c.unlock()
	}
}

func (c *Client) lock(ctx context.Context) error {
	c.once.Do(func() { c.turn = make(chan struct{}, 1) })
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Client) unlock() { <-c.turn }

func (c *Client) drop() {
	if c.conn != nil {
		c.conn.close()
		c.conn = nil
	}
}

// call runs a command; event, if not empty, names the events that bring its
// result, for each.
func (c *Client) call(ctx context.Context, command string, m Message, event string, each func(Message)) (Message, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.unlock()
	fresh := c.conn == nil
	out, err := c.try(ctx, command, m, event, each)
	// Charon may have been started again since the last command; then it has
	// taken nothing of this one.
	if err != nil && !fresh && c.conn == nil && errors.Is(err, errBroken) {
		out, err = c.try(ctx, command, m, event, each)
	}
	return out, err
}

// errBroken is wrapped when the connection ended.
var errBroken = errors.New("connection to charon broke")

func (c *Client) try(ctx context.Context, command string, m Message, event string, each func(Message)) (Message, error) {
	within := c.Within
	if within == 0 {
		within = wholeResponseWithin
	}
	if c.conn == nil {
		k, err := dial(ctx, c.Socket)
		if err != nil {
			return nil, err
		}
		c.conn = k
	}
	defer c.conn.until(ctx, within)()
	take := func(p packet) {
		if p.name == event {
			each(p.body)
		}
	}
	run := func() (Message, error) {
		if event == "" {
			return c.conn.call(command, m, take)
		}
		if err := c.conn.register(packetRegister, event, take); err != nil {
			return nil, err
		}
		out, err := c.conn.call(command, m, take)
		var refused *RefusedError
		if err != nil && !errors.As(err, &refused) {
			return nil, err
		}
		return out, errors.Join(err, c.conn.register(packetUnregister, event, take))
	}
	out, err := run()
	var refused *RefusedError
	if err == nil || errors.As(err, &refused) {
		return out, err
	}
	c.drop()
	return nil, explain(ctx, command, err)
}

// explain says what an error of a connection means.
func explain(ctx context.Context, command string, err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, ErrMalformed):
		return fmt.Errorf("charon: %s: %w", command, err)
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return ctx.Err()
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("charon: %s: %w", command, ErrSilent)
	}
	return fmt.Errorf("charon: %s: %w: %w", command, errBroken, err)
}
