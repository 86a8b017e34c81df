package capture

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Filter says which packets are wanted. The zero one wants all.
type Filter struct{ root node }

// ErrFilter is wrapped by what Parse refuses.
var ErrFilter = errors.New("not a filter of packets")

// Bounds of a filter that a person types.
const (
	termsMost = 64
	depthMost = 16
)

// Parse reads a filter's words:
//
//	host ADDRESS   from or to it (of ARP: sender or target)
//	net PREFIX     likewise
//	port N         TCP, UDP or SCTP, source or destination
//	tcp udp icmp arp esp ip ip6
//	vlan [N]       tagged, whatever the tag or with VLAN N
//	not, and, or, ( )
//
// "and" binds closer than "or" and may be left out. icmp is both versions.
func Parse(words []string) (Filter, error) {
	p := parser{}
	for _, w := range words {
		p.words = append(p.words, strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ", "!", " not ").Replace(w))...)
	}
	if len(p.words) == 0 {
		return Filter{}, nil
	}
	n, err := p.or(0)
	if err == nil && len(p.words) > 0 {
		err = fmt.Errorf("%q isn't expected there", p.words[0])
	}
	if err != nil {
		return Filter{}, fmt.Errorf("%w: %w", ErrFilter, err)
	}
	return Filter{n}, nil
}

// And wants what both want.
func (f Filter) And(g Filter) Filter {
	switch {
	case f.root == nil:
		return g
	case g.root == nil:
		return f
	}
	return Filter{both{f.root, g.root}}
}

// Without leaves the packets of TCP connections out.
func (f Filter) Without(all []Connection) Filter {
	for _, c := range all {
		f = f.And(Filter{not{flow(c)}})
	}
	return f
}

func single(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

// String is the filter as Parse reads it; empty: all packets.
func (f Filter) String() string {
	if f.root == nil {
		return ""
	}
	return f.root.String()
}

// node is one part of a filter.
type node interface {
	fmt.Stringer
	compile(b *builder, yes, no label)
}

type (
	both   struct{ a, b node }
	either struct{ a, b node }
	not    struct{ n node }
	host   struct{ netip.Prefix }
	port   uint16
	proto  string
	vlan   int // anyVLAN, or its number
	flow   Connection
)

const anyVLAN vlan = -1

func (n both) String() string   { return "(" + n.a.String() + " and " + n.b.String() + ")" }
func (n either) String() string { return "(" + n.a.String() + " or " + n.b.String() + ")" }
func (n not) String() string    { return "not " + n.n.String() }
func (n port) String() string   { return "port " + strconv.Itoa(int(n)) }
func (n proto) String() string  { return string(n) }

func (n host) String() string {
	if n.IsSingleIP() {
		return "host " + n.Addr().String()
	}
	return "net " + n.Prefix.String()
}

func (n flow) String() string {
	return fmt.Sprintf("(tcp and host %s and port %d and host %s and port %d)", n.Local.Addr(), n.Local.Port(), n.Remote.Addr(), n.Remote.Port())
}

func (n vlan) String() string {
	if n == anyVLAN {
		return "vlan"
	}
	return "vlan " + strconv.Itoa(int(n))
}

type parser struct {
	words []string
	terms int
}

func (p *parser) next() string {
	if len(p.words) == 0 {
		return ""
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

func (p *parser) peek() string {
	if len(p.words) == 0 {
		return ""
	}
	return p.words[0]
}

func (p *parser) or(depth int) (node, error) {
	n, err := p.and(depth)
	for err == nil && p.peek() == "or" {
		p.next()
		var m node
		m, err = p.and(depth)
		n = either{n, m}
	}
	return n, err
}

func (p *parser) and(depth int) (node, error) {
	n, err := p.term(depth)
	for err == nil && !slices.Contains([]string{"", "or", ")"}, p.peek()) {
		if p.peek() == "and" {
			p.next()
		}
		var m node
		m, err = p.term(depth)
		n = both{n, m}
	}
	return n, err
}

func (p *parser) term(depth int) (node, error) {
	if p.terms++; p.terms > termsMost || depth > depthMost {
		return nil, fmt.Errorf("more than %d terms, or %d deep", termsMost, depthMost)
	}
	switch w := p.next(); w {
	case "not":
		n, err := p.term(depth + 1)
		return not{n}, err
	case "(":
		n, err := p.or(depth + 1)
		if err == nil && p.next() != ")" {
			err = errors.New("a ) is missing")
		}
		return n, err
	case "host":
		a, err := netip.ParseAddr(p.next())
		if err != nil {
			return nil, errors.New("host needs an address")
		}
		return host{single(a)}, nil
	case "net":
		x, err := netip.ParsePrefix(p.next())
		if err != nil {
			return nil, errors.New("net needs a prefix such as 10.1.0.0/16")
		}
		return host{x.Masked()}, nil
	case "port":
		n, err := strconv.ParseUint(p.next(), 10, 16)
		if err != nil || n == 0 {
			return nil, errors.New("port needs a number from 1 to 65535")
		}
		return port(n), nil
	case "vlan":
		n, err := strconv.ParseUint(p.peek(), 10, 16)
		if err != nil {
			return anyVLAN, nil //nolint:nilerr // no number: any
		}
		p.next()
		if n > 4094 {
			return nil, errors.New("vlan has numbers from 0 to 4094")
		}
		return vlan(n), nil
	case "tcp", "udp", "icmp", "arp", "esp", "ip", "ip6":
		return proto(w), nil
	case "":
		return nil, errors.New("something is missing at the end")
	default:
		return nil, fmt.Errorf("%q isn't known: host, net, port, tcp, udp, icmp, arp, esp, ip, ip6, vlan, not, and, or, ( )", w)
	}
}
