package ntpio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"komainu/ntp/wall"
)

const (
	// hardware is what is asked of a socket besides when the interface stamps.
	hardware = unix.SOF_TIMESTAMPING_RX_HARDWARE | unix.SOF_TIMESTAMPING_RAW_HARDWARE
	// comparing is how often the interface's clock is compared with the wall clock.
	// The last two comparisons say how fast it is.
	comparing = time.Second
	// plausible is how long before the kernel's look at it a packet may have been
	// stamped by the interface. What isn't within that is a clock that was set.
	plausible = 10 * time.Millisecond
)

// nic is a network interface that stamps packets, by a clock of its own.
type nic struct {
	name  string
	clock *os.File // /dev/ptpN
	scale atomic.Pointer[scale]
}

// scale leads from the interface's clock to the wall clock.
type scale struct {
	own, wall wall.Time // the same moment
	rate      float64   // of the wall clock against the own
}

func (s *scale) toWall(t wall.Time) wall.Time {
	return s.wall.Add(time.Duration(float64(t.Sub(s.own)) * s.rate))
}

// next is the scale after another comparison.
func (s *scale) next(own, at wall.Time) *scale {
	n := &scale{own: own, wall: at, rate: 1}
	if s == nil {
		return n
	}
	if d := own.Sub(s.own); d > comparing/10 && d < 100*comparing {
		// Quartz is within 1e-3; else one of the clocks was set.
		if r := float64(at.Sub(s.wall)) / float64(d); r > 1-1e-3 && r < 1+1e-3 {
			n.rate = r
		}
	}
	return n
}

// stamping lets an interface stamp packets. An error says why it doesn't; the
// kernel then does.
func stamping(fd int, name string) (*nic, error) {
	info, err := unix.IoctlGetEthtoolTsInfo(fd, name)
	if err != nil {
		return nil, fmt.Errorf("ask interface %s for its time stamps: %w", name, err)
	}
	const needed = hardware | unix.SOF_TIMESTAMPING_TX_HARDWARE
	if info.So_timestamping&needed != needed || info.Phc_index < 0 || info.Tx_types&(1<<unix.HWTSTAMP_TX_ON) == 0 {
		return nil, fmt.Errorf("interface %s stamps no packets", name)
	}
	cfg := unix.HwTstampConfig{Tx_type: unix.HWTSTAMP_TX_ON}
	switch {
	case info.Rx_filters&(1<<unix.HWTSTAMP_FILTER_NTP_ALL) != 0:
		cfg.Rx_filter = unix.HWTSTAMP_FILTER_NTP_ALL
	case info.Rx_filters&(1<<unix.HWTSTAMP_FILTER_ALL) != 0:
		cfg.Rx_filter = unix.HWTSTAMP_FILTER_ALL
	default:
		return nil, fmt.Errorf("interface %s stamps no NTP packets", name)
	}
	if err := unix.IoctlSetHwTstamp(fd, name, &cfg); err != nil {
		return nil, fmt.Errorf("let interface %s stamp packets: %w", name, err)
	}
	clock, err := os.Open(fmt.Sprintf("/dev/ptp%d", info.Phc_index))
	if err != nil {
		return nil, fmt.Errorf("the clock of interface %s: %w", name, err)
	}
	n := &nic{name: name, clock: clock}
	if err := n.compare(); err != nil {
		return nil, errors.Join(err, clock.Close())
	}
	return n, nil
}

// at finds the interface of an endpoint.
func (e Endpoint) at() (string, error) {
	if e.Interface != "" {
		return e.Interface, nil
	}
	a := e.Local.Addr().Unmap()
	all, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has just gone
		}
		for _, x := range addrs {
			if p, err := netip.ParsePrefix(x.String()); err == nil && p.Addr() == a {
				return i.Name, nil
			}
		}
	}
	return "", fmt.Errorf("no interface has the address %v", a)
}

// compare reads both clocks, several times, and takes the reading that took
// least.
func (n *nic) compare() error {
	const times = 5
	raw, err := n.clock.SyscallConn()
	if err != nil {
		return err
	}
	var o *unix.PtpSysOffsetExtended
	err2 := raw.Control(func(fd uintptr) { o, err = unix.IoctlPtpSysOffsetExtended(int(fd), times) })
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("compare the clock of interface %s with the wall clock: %w", n.name, err)
	}
	ns := func(t unix.PtpClockTime) wall.Time { return wall.Time(t.Sec)*1e9 + wall.Time(t.Nsec) }
	best := time.Duration(-1)
	var own, at wall.Time
	for _, r := range o.Ts[:times] {
		before, after := ns(r[0]), ns(r[2])
		if d := after.Sub(before); d >= 0 && (best < 0 || d < best) {
			best, own, at = d, ns(r[1]), before.Add(d/2)
		}
	}
	if best < 0 {
		return fmt.Errorf("the wall clock was set while it was compared with the clock of interface %s", n.name)
	}
	n.scale.Store(n.scale.Load().next(own, at))
	return nil
}

// run compares the clocks until ctx ends. While they can't be compared, stamps
// become implausible, and the kernel's are used.
func (n *nic) run(ctx context.Context) {
	tick := time.NewTicker(comparing)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = n.compare()
		}
	}
}

func (n *nic) close() error {
	if err := n.clock.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close the clock of interface %s: %w", n.name, err)
	}
	return nil
}

// best is the stamp to use of the kernel's and the interface's, either of which
// may be missing (0). seen is when the kernel had surely seen the packet.
func (n *nic) best(software, stamp, seen wall.Time) wall.Time {
	if n == nil || stamp == 0 {
		return software
	}
	t := n.scale.Load().toWall(stamp)
	if d := seen.Sub(t); d < 0 || d > plausible {
		return software
	}
	return t
}
