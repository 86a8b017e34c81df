// Package listen opens TCP listeners on addresses of this box that may come up
// later: a port that is pulled or a card that is missing must not keep a daemon
// from starting.
package listen

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// TCP listens at one address and port (IP_FREEBIND of ip(7), IPV6_FREEBIND of
// ipv6(7)). The errors are those of net.ListenConfig.Listen. Ports below 1024
// need CAP_NET_BIND_SERVICE.
func TCP(ctx context.Context, at netip.AddrPort) (net.Listener, error) { return TCPOn(ctx, at, "") }

// TCPOn is TCP for clients behind one device only, such as the VRF that the
// address is in (SO_BINDTODEVICE of socket(7); kernel: networking/vrf.rst);
// device "" is any. It needs CAP_NET_RAW, and the device must be there.
func TCPOn(ctx context.Context, at netip.AddrPort, device string) (net.Listener, error) {
	level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
	if at.Addr().Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
	}
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if e := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), level, option, 1)
			if err == nil && device != "" {
				if err = unix.BindToDevice(int(fd), device); err != nil {
					err = fmt.Errorf("bind to device %s: %w", device, err)
				}
			}
		}); e != nil {
			return e
		}
		return err
	}}
	c.SetMultipathTCP(false)
	return c.Listen(ctx, "tcp", at.String())
}
