package main

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// message is struct mmsghdr of recvmmsg(2).
type message struct {
	unix.Msghdr
	n uint32
	_ [4]byte
}

// pipe is a connected socket with requests under way.
type pipe struct {
	fd       int
	open     int // requests under way
	out, in  []message
	received [][512]byte
}

// connect opens a socket to the server, from a port of its own.
func (l *load) connect() (int, error) {
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: l.to.Addr().As16(), Port: int(l.to.Port())})
	if l.to.Addr().Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Addr: l.to.Addr().As4(), Port: int(l.to.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a socket: %w", err)
	}
	if err := unix.Connect(fd, to); err != nil {
		return -1, errors.Join(fmt.Errorf("connect: %w", err), unix.Close(fd))
	}
	return fd, nil
}

func (l *load) pipe(request []byte) (*pipe, error) {
	fd, err := l.connect()
	if err != nil {
		return nil, err
	}
	p := &pipe{fd: fd, out: make([]message, l.window), in: make([]message, l.window), received: make([][512]byte, l.window)}
	iov := make([]unix.Iovec, 2*l.window)
	for i := range p.out {
		to, from := &iov[2*i], &iov[2*i+1]
		to.Base, from.Base = &request[0], &p.received[i][0]
		to.SetLen(len(request))
		from.SetLen(len(p.received[i]))
		p.out[i].Iov, p.in[i].Iov = to, from
		p.out[i].Iovlen, p.in[i].Iovlen = 1, 1
	}
	return p, nil
}

// fill sends as many requests as may be under way.
func (p *pipe) fill() (int, error) {
	room := len(p.out) - p.open
	if room == 0 {
		return 0, nil
	}
	n, _, e := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(p.fd), uintptr(unsafe.Pointer(&p.out[0])), uintptr(room), unix.MSG_DONTWAIT, 0, 0)
	if e != 0 && e != unix.EAGAIN && e != unix.EINTR {
		return 0, fmt.Errorf("send: %w", e)
	}
	if e != 0 {
		return 0, nil
	}
	p.open += int(n)
	return int(n), nil
}

// drain takes the replies that are there.
func (p *pipe) drain() (int, error) {
	n, _, e := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(p.fd), uintptr(unsafe.Pointer(&p.in[0])), uintptr(len(p.in)), unix.MSG_DONTWAIT, 0, 0)
	if e == unix.EAGAIN || e == unix.EINTR {
		return 0, nil
	}
	if e != 0 {
		return 0, fmt.Errorf("receive: %w", e)
	}
	for i := range int(n) {
		if _, err := reply(p.received[i][:min(int(p.in[i].n), len(p.received[i]))]); err != nil {
			return 0, err
		}
	}
	p.open = max(0, p.open-int(n))
	return int(n), nil
}

// lossAfter is when requests without a reply are taken for lost.
const lossAfter = 50 * time.Millisecond

func (l *load) saturate() (r Result, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	request, err := l.request()
	if err != nil {
		return r, err
	}
	pipes := make([]*pipe, l.sockets)
	polls := make([]unix.PollFd, l.sockets)
	for i := range pipes {
		if pipes[i], err = l.pipe(request); err != nil {
			return r, err
		}
		defer unix.Close(pipes[i].fd)
		polls[i] = unix.PollFd{Fd: int32(pipes[i].fd), Events: unix.POLLIN}
	}
	pump := func(length time.Duration) error {
		for end := time.Now().Add(length); time.Now().Before(end); {
			moved := 0
			for _, p := range pipes {
				got, err := p.drain()
				if err != nil {
					return err
				}
				sent, err := p.fill()
				if err != nil {
					return err
				}
				r.Replies += got
				r.Requests += sent
				moved += got + sent
			}
			if moved > 0 {
				continue
			}
			if n, err := unix.Poll(polls, int(lossAfter/time.Millisecond)); n == 0 && err == nil {
				for _, p := range pipes {
					p.open = 0
				}
			}
		}
		return nil
	}
	return r, l.measured(&r, pump)
}

// measured runs pump to warm up, and again with the meter on.
func (l *load) measured(r *Result, pump func(time.Duration) error) error {
	if err := pump(l.warm); err != nil {
		return err
	}
	*r = Result{}
	m, err := l.meter()
	if err != nil {
		return err
	}
	if err := pump(l.length); err != nil {
		return err
	}
	if err := m.end(r); err != nil {
		return err
	}
	if r.Replies == 0 {
		return fmt.Errorf("no reply to %d requests: %w", r.Requests, net.ErrClosed)
	}
	return nil
}
