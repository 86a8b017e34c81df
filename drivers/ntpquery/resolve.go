package ntpquery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// resolveTimeout bounds Resolve when the caller's context doesn't.
const resolveTimeout = 10 * time.Second

// Resolve asks the system's resolver for the IPv4 and IPv6 addresses of name,
// in the resolver's order, each once, and takes at most 10 seconds. An address
// is its own answer. The error is an *Error with code Unresolved or Timeout.
func Resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, &Error{Code: Unresolved, Server: name, Err: fmt.Errorf("look the name up as /etc/resolv.conf says: %w", err)}
	}
	var addrs []netip.Addr
	for _, a := range found {
		if a = a.Unmap(); !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	return addrs, nil // at least one: LookupNetIP has an error otherwise
}
