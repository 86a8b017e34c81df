// Package sockdiag destroys the TCP sockets of a port (SOCK_DESTROY of
// sock_diag(7)), so that the kernel can't retransmit what a fence has blocked.
// The client gets a reset, the process that owns the socket ECONNABORTED.
package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ErrUnsupported is returned by a kernel without CONFIG_INET_DIAG_DESTROY. The
// way out is to stop the server: sockets of ended processes still retransmit
// what they were sending, so the fence must stay closed until Count says 0.
var ErrUnsupported = errors.New("the kernel can't destroy sockets (CONFIG_INET_DIAG_DESTROY)")

// Conn is a lasting socket to sock_diag, in the network namespace in which it
// was opened. Its methods may be called from several goroutines.
type Conn struct {
	mu   sync.Mutex
	conn *netlink.Conn
}

// Open connects to sock_diag. Destroying needs CAP_NET_ADMIN.
func Open() (*Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket to sock_diag: %w", err)
	}
	return &Conn{conn: c}, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return c.conn.Close() }

const (
	byFamily = 20 // SOCK_DIAG_BY_FAMILY
	destroy  = 21 // SOCK_DESTROY
	idSize   = 48 // struct inet_diag_sockid

	// All states but listening (10) and bound without a peer (13); see
	// net/tcp_states.h. 12 is a connection whose handshake isn't done.
	states = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<9 | 1<<11 | 1<<12
)

type socket struct {
	family byte
	id     [idSize]byte
	remote netip.Addr
}

// request is a struct inet_diag_req_v2.
func request(kind uint16, flags netlink.HeaderFlags, family byte, mask uint32, id []byte) netlink.Message {
	b := make([]byte, 8, 8+idSize)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], mask)
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags},
		Data:   append(b, id...),
	}
}

// list returns the sockets of a local port but those to keep.
func (c *Conn) list(port uint16, keep []netip.Addr) ([]socket, error) {
	var found []socket
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} { // IPv6 holds the mapped ones
		id := make([]byte, idSize)
		binary.BigEndian.PutUint16(id, port)
		msgs, err := c.conn.Execute(request(byFamily, netlink.Dump, family, states, id))
		if err != nil {
			return nil, fmt.Errorf("list the TCP sockets of port %d: %w", port, err)
		}
		for _, m := range msgs {
			if len(m.Data) < 4+idSize {
				return nil, fmt.Errorf("list the TCP sockets of port %d: answer of %d bytes", port, len(m.Data))
			}
			s := socket{family: m.Data[0], id: [idSize]byte(m.Data[4:])}
			if binary.BigEndian.Uint16(s.id[:]) != port {
				continue
			}
			if s.family == unix.AF_INET {
				s.remote = netip.AddrFrom4([4]byte(s.id[20:]))
			} else {
				s.remote = netip.AddrFrom16([16]byte(s.id[20:])).Unmap()
			}
			if !slices.Contains(keep, s.remote) {
				found = append(found, s)
			}
		}
	}
	return found, nil
}

// Count returns the number of TCP sockets of a local port, IPv4 and IPv6, but
// those whose remote address is in keep. Listening sockets don't count.
func (c *Conn) Count(port uint16, keep []netip.Addr) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, err := c.list(port, keep)
	return len(found), err
}

// Destroy destroys what Count counts and returns how many there were. New
// connections may have come meanwhile: close the gate first, and ask Count
// until it says 0. It wraps ErrUnsupported if the kernel can't.
func (c *Conn) Destroy(port uint16, keep []netip.Addr) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, err := c.list(port, keep)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, s := range found {
		_, err := c.conn.Execute(request(destroy, netlink.Acknowledge, s.family, states, s.id[:]))
		switch {
		case errors.Is(err, unix.EOPNOTSUPP):
			return n, fmt.Errorf("destroy the TCP sockets of port %d: %w", port, ErrUnsupported)
		case errors.Is(err, unix.ENOENT): // it went by itself
		case err != nil:
			errs = append(errs, fmt.Errorf("destroy the TCP socket from port %d to %s: %w", port, s.remote, err))
		default:
			n++
		}
	}
	return n, errors.Join(errs...)
}
