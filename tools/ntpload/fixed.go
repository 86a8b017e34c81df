package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

// paced calls step at the fixed rate. Steps that are late aren't made up for.
func (l *load) paced(length time.Duration, step func() error) error {
	period := int64(time.Second) / int64(l.rate)
	next, err := monotonic()
	if err != nil {
		return err
	}
	for end := next + int64(length); next < end; {
		if err := step(); err != nil {
			return err
		}
		now, err := monotonic()
		if err != nil {
			return err
		}
		for next += period; next < now; {
			next += period
		}
		at := unix.NsecToTimespec(next)
		for errors.Is(unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &at, nil), unix.EINTR) {
		}
	}
	return nil
}

func monotonic() (int64, error) {
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano(), err
}

// caller is a connected socket with one request at a time. It never waits for
// a reply: the server's CPU would be charged for waking it. A reply is taken
// when the next request is due; its time stamp is the kernel's.
type caller struct {
	fd      int
	stamped bool
	sent    uint32 // requests with a stamp
	data    [1024]byte
	control [256]byte
}

func (l *load) caller(stamped bool) (*caller, error) {
	fd, err := l.connect()
	if err != nil {
		return nil, err
	}
	if stamped {
		const flags = unix.SOF_TIMESTAMPING_RX_SOFTWARE | unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE |
			unix.SOF_TIMESTAMPING_OPT_ID | unix.SOF_TIMESTAMPING_OPT_TSONLY
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, flags); err != nil {
			return nil, errors.Join(fmt.Errorf("set SO_TIMESTAMPING: %w", err), unix.Close(fd))
		}
	}
	return &caller{fd: fd, stamped: stamped}, nil
}

// ask sends a request and returns the kernel's stamp of it, 0 without stamps.
func (c *caller) ask(request []byte) (wall.Time, error) {
	if _, err := unix.Write(c.fd, request); err != nil {
		return 0, fmt.Errorf("send: %w", err)
	}
	if !c.stamped {
		return 0, nil
	}
	return c.departure()
}

// errNone: there was no reply.
var errNone = errors.New("no reply")

// take takes a reply and the kernel's stamp of it, 0 without stamps. Replies
// that are left over from earlier requests are the caller's to tell apart.
func (c *caller) take() (h packet.Header, at wall.Time, err error) {
	n, nc, _, _, err := unix.Recvmsg(c.fd, c.data[:], c.control[:], unix.MSG_DONTWAIT)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return h, 0, errNone
	}
	if err != nil {
		return h, 0, fmt.Errorf("receive: %w", err)
	}
	at, _, _ = notes(c.control[:nc])
	h, err = reply(c.data[:n])
	return h, at, err
}

// departure reads the stamp of the request that has just been sent. On a veth
// pair it is there when the send returns.
func (c *caller) departure() (wall.Time, error) {
	id := c.sent
	c.sent++
	for range 100 {
		_, nc, _, _, err := unix.Recvmsg(c.fd, nil, c.control[:], unix.MSG_ERRQUEUE)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("read the time stamp of sending: %w", err)
		}
		if at, of, ok := notes(c.control[:nc]); ok && of == id {
			return at, nil
		}
	}
	return 0, errors.New("the kernel gives no time stamp of sending")
}

// notes reads the time stamp in control messages, and of which request it is.
func notes(b []byte) (at wall.Time, of uint32, sent bool) {
	for len(b) >= unix.SizeofCmsghdr {
		c := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		if c.Len < unix.SizeofCmsghdr || int(c.Len) > len(b) {
			break
		}
		data := b[unix.SizeofCmsghdr:c.Len]
		switch {
		case c.Level == unix.SOL_SOCKET && c.Type == unix.SO_TIMESTAMPING && len(data) >= 16:
			at = wall.Time(binary.NativeEndian.Uint64(data))*1e9 + wall.Time(binary.NativeEndian.Uint64(data[8:]))
		case (c.Type == unix.IP_RECVERR && c.Level == unix.IPPROTO_IP || c.Type == unix.IPV6_RECVERR && c.Level == unix.IPPROTO_IPV6) && len(data) >= 16:
			of, sent = binary.NativeEndian.Uint32(data[12:]), true
		}
		b = b[min((int(c.Len)+7)&^7, len(b)):]
	}
	return at, of, sent
}

// alone makes a caller on a thread of its own that sleeps punctually.
func (l *load) alone(stamped bool, f func(*caller) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set the timer slack: %w", err)
	}
	c, err := l.caller(stamped)
	if err != nil {
		return err
	}
	return errors.Join(f(c), unix.Close(c.fd))
}

func (l *load) fixed() (r Result, err error) {
	request, err := l.request()
	if err != nil {
		return r, err
	}
	return r, l.alone(false, func(c *caller) error {
		return l.measured(&r, func(length time.Duration) error {
			return l.paced(length, func() error {
				for {
					_, _, err := c.take()
					if errors.Is(err, errNone) {
						break
					}
					if err != nil {
						return err
					}
					r.Replies++
				}
				r.Requests++
				_, err := c.ask(request)
				return err
			})
		})
	})
}
