package ntske

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"komainu/drivers/holder"
	"komainu/drivers/listen"
)

// Listen opens a listener for Server.Serve on an address of this box, which may
// come up later, and a TCP port. Ports below 1024 need CAP_NET_BIND_SERVICE.
func Listen(at netip.AddrPort) (net.Listener, error) {
	ln, err := listen.TCP(context.Background(), at)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("listen for NTS key exchanges on address %v, TCP port %d: the port is taken by %s: stop it or choose another port: %w",
			at.Addr(), at.Port(), holder.Of("tcp", at.Port()), err)
	case err != nil:
		return nil, fmt.Errorf("listen for NTS key exchanges on address %v, TCP port %d: %w", at.Addr(), at.Port(), err)
	}
	return ln, nil
}
