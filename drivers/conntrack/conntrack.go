// Package conntrack lists and deletes entries of the kernel's connection
// tracking by their mark, over ctnetlink (linux/netfilter/nfnetlink_conntrack.h).
// It never deletes without a mark and a mask: that would flush everything.
package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ErrMask is returned for a mask of 0, which every connection would match.
var ErrMask = errors.New("a mask of 0 would match every connection")

// State is the kernel's view of a TCP connection (linux/netfilter/nf_conntrack_tcp.h).
type State uint8

// The states.
const (
	StateNone State = iota // also of other protocols
	SynSent
	SynRecv
	Established
	FinWait
	CloseWait
	LastAck
	TimeWait
	Close
	SynSent2
)

// Tuple is one direction of a flow.
type Tuple struct{ Source, Destination netip.AddrPort }

// Flow is one tracked connection. Original is as the client sent it, Reply as
// the server answers: they differ where the connection is translated.
type Flow struct {
	Protocol        uint8 // IPPROTO_*
	Original, Reply Tuple
	State           State
	Mark            uint32
}

// Conn is a lasting socket to ctnetlink, in the network namespace in which it
// was opened. Its methods may be called from several goroutines.
type Conn struct {
	mu   sync.Mutex
	conn *netlink.Conn
}

// Open connects to ctnetlink. Needs CAP_NET_ADMIN.
func Open() (*Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket to connection tracking: %w", err)
	}
	if err := c.SetReadBuffer(8 << 20); err != nil { // thousands of flows in one dump
		return nil, errors.Join(fmt.Errorf("connection tracking: enlarge the socket buffer: %w", err), c.Close())
	}
	return &Conn{conn: c}, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return c.conn.Close() }

// Attributes of ctnetlink that x/sys/unix doesn't name.
const (
	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaProtoinfo  = 4
	ctaMark       = 8
	ctaMarkMask   = 21

	ctaTupleIP    = 1
	ctaTupleProto = 2

	ctaIPv4Src = 1
	ctaIPv4Dst = 2
	ctaIPv6Src = 3
	ctaIPv6Dst = 4

	ctaProtoNum     = 1
	ctaProtoSrcPort = 2
	ctaProtoDstPort = 3

	ctaProtoinfoTCP      = 1
	ctaProtoinfoTCPState = 1

	ipctnlGet    = 1
	ipctnlDelete = 2
)

// request is about all connections, IPv4 and IPv6, whose mark fits.
func request(kind uint16, flags netlink.HeaderFlags, mark, mask uint32) (netlink.Message, error) {
	if mask == 0 {
		return netlink.Message{}, ErrMask
	}
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	ae.Uint32(ctaMark, mark&mask)
	ae.Uint32(ctaMarkMask, mask)
	attrs, err := ae.Encode()
	if err != nil {
		return netlink.Message{}, err
	}
	return message(kind, flags, attrs), nil
}

func message(kind uint16, flags netlink.HeaderFlags, attrs []byte) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_CTNETLINK<<8 | kind), Flags: netlink.Request | flags},
		Data:   append([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0}, attrs...),
	}
}

// Flows lists the connections whose mark, under mask, is mark. The kernel walks
// its whole table, which costs some 10 ms even if nothing is found: ask once
// with All rather than for one mark after the other.
func (c *Conn) Flows(ctx context.Context, mark, mask uint32) ([]Flow, error) {
	req, err := request(ipctnlGet, netlink.Dump, mark, mask)
	var flows []Flow
	if err == nil {
		// Kernels before 5.8 ignore the filter of a dump without saying so.
		flows, err = c.list(ctx, req, func(f Flow) bool { return f.Mark&mask == mark&mask })
	}
	if err != nil {
		return nil, fmt.Errorf("list connections of mark %#x/%#x: %w", mark, mask, err)
	}
	return flows, nil
}

// All lists every connection, marked or not, in one walk of the kernel's table.
func (c *Conn) All(ctx context.Context) ([]Flow, error) {
	flows, err := c.list(ctx, message(ipctnlGet, netlink.Dump, nil), func(Flow) bool { return true })
	if err != nil {
		return nil, fmt.Errorf("list all connections: %w", err)
	}
	return flows, nil
}

func (c *Conn) list(ctx context.Context, req netlink.Message, keep func(Flow) bool) ([]Flow, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	msgs, err := c.conn.Execute(req)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	flows := make([]Flow, 0, len(msgs))
	for _, m := range msgs {
		f, err := parse(m.Data)
		if err != nil {
			return nil, err
		}
		if keep(f) {
			flows = append(flows, f)
		}
	}
	return flows, nil
}

// Delete removes the connections whose mark, under mask, is mark. The kernel
// doesn't say how many there were; Flows does, beforehand.
func (c *Conn) Delete(mark, mask uint32) error {
	req, err := request(ipctnlDelete, netlink.Acknowledge, mark, mask)
	if err == nil {
		c.mu.Lock()
		_, err = c.conn.Execute(req)
		c.mu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("delete connections of mark %#x/%#x: %w", mark, mask, err)
	}
	return nil
}

func parse(b []byte) (Flow, error) {
	var f Flow
	if len(b) < 4 {
		return f, fmt.Errorf("message of %d bytes", len(b))
	}
	ad, err := netlink.NewAttributeDecoder(b[4:])
	if err != nil {
		return f, err
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		switch ad.Type() {
		case ctaTupleOrig:
			ad.Nested(tuple(&f.Original, &f.Protocol))
		case ctaTupleReply:
			ad.Nested(tuple(&f.Reply, &f.Protocol))
		case ctaMark:
			f.Mark = ad.Uint32()
		case ctaProtoinfo:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					if ad.Type() == ctaProtoinfoTCP {
						ad.Nested(func(ad *netlink.AttributeDecoder) error {
							for ad.Next() {
								if ad.Type() == ctaProtoinfoTCPState {
									f.State = State(ad.Uint8())
								}
							}
							return nil
						})
					}
				}
				return nil
			})
		}
	}
	return f, ad.Err()
}

func tuple(t *Tuple, protocol *uint8) func(*netlink.AttributeDecoder) error {
	return func(ad *netlink.AttributeDecoder) error {
		var src, dst netip.Addr
		var sport, dport uint16
		for ad.Next() {
			switch ad.Type() {
			case ctaTupleIP:
				ad.Nested(func(ad *netlink.AttributeDecoder) error {
					for ad.Next() {
						a, _ := netip.AddrFromSlice(ad.Bytes())
						switch ad.Type() {
						case ctaIPv4Src, ctaIPv6Src:
							src = a
						case ctaIPv4Dst, ctaIPv6Dst:
							dst = a
						}
					}
					return nil
				})
			case ctaTupleProto:
				ad.Nested(func(ad *netlink.AttributeDecoder) error {
					for ad.Next() {
						switch ad.Type() {
						case ctaProtoNum:
							*protocol = ad.Uint8()
						case ctaProtoSrcPort:
							sport = ad.Uint16()
						case ctaProtoDstPort:
							dport = ad.Uint16()
						}
					}
					return nil
				})
			}
		}
		*t = Tuple{netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)}
		return nil
	}
}
