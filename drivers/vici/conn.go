package vici

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Packets on the wire.
const (
	packetRequest       = 0
	packetResponse      = 1
	packetUnknown       = 2
	packetRegister      = 3
	packetConfirm       = 5
	packetUnknownEvent  = 6
	packetEvent         = 7
	packetUnregister    = 4
	packetHeader        = 4 // bytes: the length of what follows
	wholeResponseWithin = 5 * time.Second
)

// ErrSilent is wrapped when charon doesn't answer in time: it hangs, or is stopped.
var ErrSilent = errors.New("charon doesn't answer")

// ErrAbsent is wrapped when nobody listens on the socket.
var ErrAbsent = errors.New("charon doesn't run")

// RefusedError is what charon said to a command.
type RefusedError struct{ Command, Reason string }

func (e *RefusedError) Error() string { return "charon refuses " + e.Command + ": " + e.Reason }

// conn is one connection. Not for concurrent use.
type conn struct {
	c net.Conn
}

func dial(ctx context.Context, socket string) (*conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("connect to charon at %s: %w: %w", socket, ErrAbsent, err)
	}
	return &conn{c}, nil
}

func (c *conn) close() { _ = c.c.Close() } // nothing is buffered

// until gives what follows the deadline of ctx, or the given one if that is
// sooner, and has the end of ctx break it off. The result ends that.
func (c *conn) until(ctx context.Context, within time.Duration) (end func()) {
	deadline := time.Now().Add(within)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = c.c.SetDeadline(deadline) // a closed connection says so at the next read
	stop := context.AfterFunc(ctx, func() { _ = c.c.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

func (c *conn) send(kind byte, name string, m Message) error {
	body, err := m.Encode()
	if err != nil {
		return err
	}
	b := appendName(make([]byte, packetHeader), kind, name)
	b = append(b, body...)
	if len(b)-packetHeader > maxPacket {
		return fmt.Errorf("vici packet of %d bytes: at most %d fit", len(b), maxPacket)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-packetHeader)) //nolint:gosec // at most maxPacket
	_, err = c.c.Write(b)
	return err
}

// packet is what charon sent.
type packet struct {
	kind byte
	name string // of an event
	body Message
}

func (c *conn) receive() (packet, error) {
	var p packet
	var head [packetHeader]byte
	if _, err := io.ReadFull(c.c, head[:]); err != nil {
		return p, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxPacket {
		return p, fmt.Errorf("%w: packet of %d bytes", ErrMalformed, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.c, b); err != nil {
		return p, err
	}
	d := decoder{rest: b}
	switch p.kind = d.byte(); p.kind {
	case packetEvent:
		p.name = d.name()
	case packetResponse, packetUnknown, packetConfirm, packetUnknownEvent:
	default:
		d.fail(fmt.Sprintf("packet of kind %d", p.kind))
	}
	p.body = d.section(0)
	return p, d.err
}

// register asks for the events of a name, or for no more of them. It must be the
// only thing that the connection waits for, but events may come meanwhile.
func (c *conn) register(kind byte, event string, f func(packet)) error {
	if err := c.send(kind, event, nil); err != nil {
		return err
	}
	for {
		p, err := c.receive()
		switch {
		case err != nil:
			return err
		case p.kind == packetEvent:
			f(p)
		case p.kind == packetConfirm:
			return nil
		default:
			return &RefusedError{"events " + event, "this charon doesn't know them"}
		}
	}
}

// call runs a command. f is given the events that come before the answer.
func (c *conn) call(command string, m Message, f func(packet)) (Message, error) {
	if err := c.send(packetRequest, command, m); err != nil {
		return nil, err
	}
	for {
		p, err := c.receive()
		switch {
		case err != nil:
			return nil, err
		case p.kind == packetEvent && f != nil:
			f(p)
		case p.kind == packetResponse:
			if p.body.Text("success") == "no" {
				return nil, &RefusedError{command, p.body.Text("errmsg")}
			}
			return p.body, nil
		default:
			return nil, &RefusedError{command, "this charon doesn't know it"}
		}
	}
}
