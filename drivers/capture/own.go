package capture

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Connection is one of TCP.
type Connection struct{ Local, Remote netip.AddrPort }

// Own are the connections that this process holds, and the one that sshd(8)
// says a person came by (SSH_CONNECTION in environment). A capture that goes
// out by one of them must leave it out: every packet would make another.
func Own(environment func(string) string) ([]Connection, error) {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, fmt.Errorf("look for own connections: %w", err)
	}
	var all []Connection
	add := func(c Connection) {
		if c.Local.IsValid() && c.Remote.IsValid() && !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	for _, n := range names {
		fd, err := strconv.Atoi(n.Name())
		if err != nil {
			continue
		}
		// A descriptor that was closed meanwhile, or is none of TCP, has no answer.
		if p, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || p != unix.IPPROTO_TCP {
			continue
		}
		local, err := unix.Getsockname(fd)
		if err != nil {
			continue
		}
		remote, err := unix.Getpeername(fd)
		if err != nil {
			continue
		}
		add(Connection{addrPort(local), addrPort(remote)})
	}
	if f := strings.Fields(environment("SSH_CONNECTION")); len(f) == 4 {
		there, err1 := netip.ParseAddrPort(join(f[0], f[1]))
		here, err2 := netip.ParseAddrPort(join(f[2], f[3]))
		if err1 == nil && err2 == nil {
			add(Connection{plain(here), plain(there)})
		}
	}
	return all, nil
}

func join(host, port string) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

func addrPort(a unix.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)) //nolint:gosec // a port
	case *unix.SockaddrInet6:
		return plain(netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))) //nolint:gosec // a port
	}
	return netip.AddrPort{}
}

func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
