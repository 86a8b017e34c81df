package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"komainu/tools/lab"
	"komainu/tools/town"
)

// knockEvery is how often a new connection is tried.
const knockEvery = 4 * time.Millisecond

// knock is the sharpest client: from now on it begins a new connection to the
// stable address every few milliseconds, without waiting for the one before,
// until a read has been answered by the town hall; it returns when that was. A
// connection that is begun too early waits for the kernel's retransmission
// after a second and is of no use, so that hardly anything but the first SYN
// after the switch counts.
func knock(ctx context.Context, from *lab.Host) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, moveBound)
	defer cancel()
	reads := make(chan time.Time, 1)
	var tries []int // sockets that wait for an answer
	failed := make(chan struct{}, 1)
	reading := false
	defer func() {
		for _, fd := range tries {
			unix.Close(fd)
		}
	}()
	addr := unix.SockaddrInet4{Port: 5432, Addr: netip.MustParseAddr(lab.Service4).As4()}
	var at time.Time
	err := from.Do(func() error {
		for {
			if reading { // the door is open: more knocks would only be in the way
				select {
				case at = <-reads:
					return nil
				case <-failed:
					reading = false
				case <-ctx.Done():
					return fmt.Errorf("read through the stable address: %w", ctx.Err())
				}
			}
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			if err := unix.Connect(fd, &addr); err != nil && !errors.Is(err, unix.EINPROGRESS) {
				unix.Close(fd)
				return err
			}
			tries = append(tries, fd)
			open, rest, err := connected(tries, knockEvery)
			if err != nil {
				return err
			}
			tries = rest
			for i, fd := range open {
				if i > 0 {
					unix.Close(fd)
					continue
				}
				reading = true
				go func() { // ends with the read, at the latest with ctx
					if readLocally(ctx, fd) {
						reads <- time.Now()
					} else {
						failed <- struct{}{}
					}
				}()
			}
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("knock at the stable address: %w", err)
			}
		}
	})
	return at, err
}

// connected waits a moment and gives those sockets that are connected, and
// those that still wait; refused ones are closed.
func connected(tries []int, wait time.Duration) (open, waiting []int, err error) {
	polls := make([]unix.PollFd, len(tries))
	until := time.Now().Add(wait)
	gone := map[int]bool{}
	for {
		for i, fd := range tries {
			polls[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT}
			if gone[fd] {
				polls[i].Fd = -1
			}
		}
		left := time.Until(until).Round(time.Millisecond)
		n, err := unix.Poll(polls, int(max(left, 0)/time.Millisecond))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, tries, err
		}
		for i := range polls {
			if n > 0 && polls[i].Fd >= 0 && polls[i].Revents != 0 {
				fd := tries[i]
				gone[fd] = true
				if e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || e != 0 {
					unix.Close(fd)
				} else {
					open = append(open, fd)
				}
			}
		}
		if len(open) > 0 || !time.Now().Before(until) {
			break
		}
	}
	for _, fd := range tries {
		if !gone[fd] {
			waiting = append(waiting, fd)
		}
	}
	return open, waiting, nil
}

// readLocally reads over a connected socket, and says whether the town hall's
// server answered. It closes the socket.
func readLocally(ctx context.Context, fd int) bool {
	f := os.NewFile(uintptr(fd), "knock")
	wire, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return false
	}
	defer wire.Close()
	cfg, err := pgx.ParseConfig(town.StableDSN)
	if err != nil {
		return false
	}
	used := false
	cfg.DialFunc = func(context.Context, string, string) (net.Conn, error) {
		if used {
			return nil, net.ErrClosed
		}
		used = true
		return wire, nil
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return false
	}
	defer c.Close(ctx)
	var server string
	err = c.QueryRow(ctx, "select host(inet_server_addr()) from resident limit 1").Scan(&server)
	return err == nil && strings.HasPrefix(server, lab.Hall4)
}
