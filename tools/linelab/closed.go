package linelab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"komainu/tools/lab"
)

// Ear listens to lines and sorts what hosts put on them.
type Ear struct {
	mu     sync.Mutex
	secret int      // ESP, bare or in UDP
	ike    int      // IKE
	local  int      // what neighbours tell each other (ICMPv6 below echo, MLD), errors about the above
	clear  []string // anything else: must not be
}

// Listen begins to listen to lines; it ends when the lab is closed.
func Listen(lines ...*lab.Line) *Ear {
	e := &Ear{}
	for _, l := range lines {
		l.Watch(func(d lab.Direction, p []byte) { e.hear(l.Name, d, p) })
	}
	return e
}

// clearKept bounds the list of what was in clear.
const clearKept = 20

func (e *Ear) hear(line string, d lab.Direction, p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	kind, what := sort(p)
	switch kind {
	case esp:
		e.secret++
	case ike:
		e.ike++
	case neighbour:
		e.local++
	default:
		if len(e.clear) < clearKept {
			e.clear = append(e.clear, fmt.Sprintf("%s %s: %s, %d bytes", line, d, what, len(p)))
		}
	}
}

// Clear is what went over the lines and isn't protected, twenty packets at most.
func (e *Ear) Clear() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.clear...)
}

// Counts are the packets so far: ESP, IKE, and what neighbours tell each other.
func (e *Ear) Counts() (secret, keys, local int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.secret, e.ike, e.local
}

type kind int

const (
	clear kind = iota
	esp
	ike
	neighbour
)

// Protocols (IANA).
const (
	protoICMP  = 1
	protoICMP6 = 58
	protoUDP   = 17
	protoESP   = 50
	protoHop   = 0
)

// sort says what a packet is, as somebody sees it who listens at the line.
// ESP in UDP has no IKE header's marker of four zero octets (RFC 3948).
func sort(p []byte) (kind, string) {
	var proto int
	var from, to netip.Addr
	var inner []byte
	switch {
	case len(p) >= ipv4.HeaderLen && p[0]>>4 == 4:
		proto, inner = int(p[9]), p[min(len(p), int(p[0]&15)*4):]
		from, to = netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
		if binary.BigEndian.Uint16(p[6:])&0x1fff != 0 { // a later fragment
			inner = nil
		}
	case len(p) >= ipv6.HeaderLen && p[0]>>4 == 6:
		proto, inner = int(p[6]), p[ipv6.HeaderLen:]
		from, to = netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
		if proto == protoHop && len(inner) >= 8 && inner[0] == protoICMP6 { // MLD has a router alert
			proto, inner = protoICMP6, inner[8:]
		}
	default:
		return clear, fmt.Sprintf("no IP: % x", p[:min(len(p), 20)])
	}
	what := fmt.Sprintf("protocol %d from %s to %s", proto, from, to)
	switch proto {
	case protoESP:
		return esp, what
	case protoUDP:
		if len(inner) < 12 {
			break
		}
		src, dst := binary.BigEndian.Uint16(inner), binary.BigEndian.Uint16(inner[2:])
		what = fmt.Sprintf("UDP from %s:%d to %s:%d", from, src, to, dst)
		switch {
		case src == 500 && dst == 500, dst == 4500 && binary.BigEndian.Uint32(inner[8:]) == 0, src == 4500 && binary.BigEndian.Uint32(inner[8:]) == 0:
			return ike, what
		case src == 4500 || dst == 4500:
			return esp, what
		}
	case protoICMP:
		// An error quotes what it is about (RFC 792): somebody says that nobody
		// hears IKE yet.
		if len(inner) > 8 && (inner[0] == 3 || inner[0] == 11) {
			if k, _ := sort(inner[8:]); k == esp || k == ike {
				return neighbour, what
			}
		}
	case protoICMP6:
		if len(inner) > 8 && inner[0] >= 1 && inner[0] <= 4 { // RFC 4443
			if k, _ := sort(inner[8:]); k == esp || k == ike {
				return neighbour, what
			}
		}
		// 130-137 and 143: listeners, routers, neighbours (RFC 4861, RFC 3810).
		if len(inner) > 0 && (inner[0] >= 130 && inner[0] <= 137 || inner[0] == 143) {
			return neighbour, what
		}
	}
	return clear, what
}
