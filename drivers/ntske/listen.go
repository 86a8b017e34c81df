package ntske

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"komainu/drivers/holder"
)

// Listen opens a listener for Server.Serve on an address of this box, which may
// come up later, and a TCP port. Ports below 1024 need CAP_NET_BIND_SERVICE.
func Listen(at netip.AddrPort) (net.Listener, error) {
	level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
	if at.Addr().Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
	}
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) }); e != nil {
			return e
		}
		return err
	}}
	c.SetMultipathTCP(false)
	ln, err := c.Listen(context.Background(), "tcp", at.String())
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("listen for NTS key exchanges on address %v, TCP port %d: the port is taken by %s: stop it or choose another port: %w",
			at.Addr(), at.Port(), holder.Of("tcp", at.Port()), err)
	case err != nil:
		return nil, fmt.Errorf("listen for NTS key exchanges on address %v, TCP port %d: %w", at.Addr(), at.Port(), err)
	}
	return ln, nil
}
