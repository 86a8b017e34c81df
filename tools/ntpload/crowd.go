package main

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// attempts of each client, on a machine that is busy with other things.
const attempts = 5

// crowd sends a request from each of many addresses until it is answered.
func (l *load) crowd() (r Result, err error) {
	request, err := l.request()
	if err != nil {
		return r, err
	}
	a := l.clients.Addr()
	if !a.Is4() || !l.to.Addr().Is4() {
		return r, errors.New("needs -clients with an IPv4 prefix, and an IPv4 server")
	}
	m, err := l.meter()
	if err != nil {
		return r, err
	}
	for range l.count {
		if a = a.Next(); !l.clients.Contains(a) {
			return r, fmt.Errorf("%v has too few addresses for %d clients", l.clients, l.count)
		}
		for range attempts {
			r.Requests++
			ok, err := l.once(a.As4(), request)
			if err != nil {
				return r, fmt.Errorf("from %v: %w", a, err)
			}
			if ok {
				r.Replies++
				break
			}
		}
	}
	return r, m.end(&r)
}

// once asks from an address.
func (l *load) once(from [4]byte, request []byte) (answered bool, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	wait := unix.NsecToTimeval(int64(20 * time.Millisecond))
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: from}),
		unix.Connect(fd, &unix.SockaddrInet4{Addr: l.to.Addr().As4(), Port: int(l.to.Port())}))
	if err != nil {
		return false, err
	}
	if _, err := unix.Write(fd, request); err != nil {
		return false, err
	}
	var b [1024]byte
	n, err := unix.Read(fd, b[:])
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = reply(b[:n])
	return true, err
}
