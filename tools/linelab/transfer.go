package linelab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"komainu/tools/lab"
)

// Store takes files in, at a host's port: of each connection it first says how
// many it has whole, then takes those that follow. What of a file came before a
// connection broke is thrown away.
type Store struct {
	l    net.Listener
	work sync.WaitGroup

	mu    sync.Mutex
	last  net.Conn // counts; those before it are broken
	whole uint32
	again int // came once more although they were whole
}

// fileHead stands before a file: its number from 0 and its size.
const fileHead = 8

// NewStore starts one. addr is "host:port".
func NewStore(ctx context.Context, at *lab.Host, addr string) (*Store, error) {
	l, err := at.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("store at %s: %w", addr, err)
	}
	s := &Store{l: l}
	s.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.work.Go(func() {
				_ = s.take(c) // the sender begins again
				c.Close()
			})
		}
	})
	return s, nil
}

// take takes files over one connection and acknowledges each when it is whole.
func (s *Store) take(c net.Conn) error {
	s.mu.Lock()
	if s.last != nil {
		s.last.Close()
	}
	s.last = c
	have := s.whole
	s.mu.Unlock()
	if _, err := c.Write(binary.BigEndian.AppendUint32(nil, have)); err != nil {
		return err
	}
	for {
		var head [fileHead]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return err
		}
		number, size := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[4:])
		if _, err := io.CopyN(io.Discard, c, int64(size)); err != nil {
			return err
		}
		s.mu.Lock()
		switch {
		case s.last != c: // it isn't told, and so will come again
			s.mu.Unlock()
			return net.ErrClosed
		case number == s.whole:
			s.whole++
		default:
			s.again++
		}
		have = s.whole
		s.mu.Unlock()
		if _, err := c.Write(binary.BigEndian.AppendUint32(nil, have)); err != nil {
			return err
		}
	}
}

// Counts are the files that are whole, and those that came again although they
// were.
func (s *Store) Counts() (whole, again int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.whole), s.again
}

// Close ends it.
func (s *Store) Close() {
	s.l.Close()
	s.mu.Lock()
	if s.last != nil {
		s.last.Close()
	}
	s.mu.Unlock()
	s.work.Wait()
}

// Send sends files of a size to a Store until it has count of them, over as many
// connections as that takes. dial makes one.
func Send(ctx context.Context, dial func(context.Context) (net.Conn, error), count, size int, patience time.Duration) (connections int, err error) {
	for ctx.Err() == nil {
		limit, cancel := context.WithTimeout(ctx, patience)
		c, derr := dial(limit)
		cancel()
		if derr != nil {
			err = derr
			continue
		}
		connections++
		err = sendOver(ctx, c, count, size, patience)
		c.Close()
		if err == nil {
			return connections, nil
		}
	}
	return connections, errors.Join(ctx.Err(), err)
}

// sendOver sends what the store doesn't have. One file is under way while the
// one before is acknowledged.
func sendOver(ctx context.Context, c net.Conn, count, size int, patience time.Duration) error {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	have := func() (int, error) {
		var b [4]byte
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, err := io.ReadFull(c, b[:])
		return int(binary.BigEndian.Uint32(b[:])), err
	}
	next, err := have()
	if err != nil {
		return err
	}
	data := make([]byte, size)
	for whole := next; whole < count; {
		if next < count && next < whole+2 {
			head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(next)), uint32(size)) //nolint:gosec // counts of a test
			_ = c.SetWriteDeadline(time.Now().Add(patience))
			if _, err := (&net.Buffers{head, data}).WriteTo(c); err != nil {
				return err
			}
			next++
			continue
		}
		if whole, err = have(); err != nil {
			return err
		}
	}
	return nil
}
