package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

// patience is how long a reply is waited for.
const patience = 100 * time.Millisecond

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
		for errors.Is(unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &at, nil), unix.EINTR) { //nolint:revive // waits on
		}
	}
	return nil
}

func monotonic() (int64, error) {
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano(), err
}

// caller is a connected socket with one request at a time.
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
	wait := unix.NsecToTimeval(int64(patience))
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	if stamped {
		const flags = unix.SOF_TIMESTAMPING_RX_SOFTWARE | unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE |
			unix.SOF_TIMESTAMPING_OPT_ID | unix.SOF_TIMESTAMPING_OPT_TSONLY
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, flags))
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &caller{fd: fd, stamped: stamped}, nil
}

// answer is a reply with the kernel's time stamps here.
type answer struct {
	header   packet.Header
	sent, at wall.Time // 0 without stamps
}

// errNone: there was no reply.
var errNone = errors.New("no reply")

// ask sends a request and waits for the reply.
func (c *caller) ask(request []byte) (a answer, err error) {
	if _, err := unix.Write(c.fd, request); err != nil {
		return a, fmt.Errorf("send: %w", err)
	}
	if c.stamped {
		if a.sent, err = c.departure(); err != nil {
			return a, err
		}
	}
	n, nc, _, _, err := unix.Recvmsg(c.fd, c.data[:], c.control[:], 0)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return a, errNone
	}
	if err != nil {
		return a, fmt.Errorf("receive: %w", err)
	}
	a.at, _, _ = notes(c.control[:nc])
	a.header, err = reply(c.data[:n])
	return a, err
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

func (l *load) fixed() (r Result, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return r, err
	}
	request, err := l.request()
	if err != nil {
		return r, err
	}
	c, err := l.caller(false)
	if err != nil {
		return r, err
	}
	defer unix.Close(c.fd)
	return r, l.measured(&r, func(length time.Duration) error {
		return l.paced(length, func() error {
			r.Requests++
			if _, err := c.ask(request); err == nil {
				r.Replies++
			} else if !errors.Is(err, errNone) {
				return err
			}
			return nil
		})
	})
}

func (l *load) stamps() (Result, error)      { return l.compare(false) }
func (l *load) interleaved() (Result, error) { return l.compare(true) }

// compare measures the errors of time stamps: of the server's receive stamp
// against ours of sending, and of its transmit stamp against ours of receiving.
// In interleaved mode a reply tells when the one before it left.
func (l *load) compare(interleaved bool) (r Result, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return r, err
	}
	c, err := l.caller(true)
	if err != nil {
		return r, err
	}
	defer unix.Close(c.fd)
	var arrival, leave, worse []float64
	var before answer // the last reply
	var arrived float64
	request := make([]byte, packet.HeaderSize)
	err = l.measured(&r, func(length time.Duration) error {
		arrival, leave, worse = nil, nil, nil
		return l.paced(length, func() error {
			h := packet.Header{Version: packet.Version, Mode: packet.ModeClient, Poll: 6, Transmit: packet.Timestamp(rand.Uint64() | 1)}
			if interleaved && before.at != 0 {
				h.Origin, h.Receive = before.header.Receive, packet.Stamp(before.at)
			}
			h.Put(request)
			r.Requests++
			a, err := c.ask(request)
			if errors.Is(err, errNone) {
				before = answer{}
				return nil
			}
			if err != nil {
				return err
			}
			r.Replies++
			in := after(a.header.Receive, a.sent)
			out := -after(a.header.Transmit, a.at)
			count := true
			switch {
			case !interleaved && a.header.Origin != h.Transmit:
				return errors.New("the reply is to another request")
			case !interleaved:
			case before.at != 0 && a.header.Origin == h.Receive:
				in, arrived, out = arrived, in, -after(a.header.Transmit, before.at)
			default: // the first of a series
				arrived, count = in, false
				r.NotMeant++
			}
			if count {
				arrival, leave = append(arrival, in), append(leave, out)
				worse = append(worse, max(in, -in, out, -out))
			}
			before = a
			return nil
		})
	})
	r.Arrival, r.Leave, r.Worse = spread(arrival), spread(leave), spread(worse)
	return r, err
}
