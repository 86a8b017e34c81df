package nft

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"komainu/netstack/qos"
)

// classTable is the name of the table that sorts packets, of family inet.
const classTable = "komainu_class"

// Classes is the one writer of the table komainu_class. Its methods may be
// called from several goroutines.
type Classes struct {
	mu   sync.Mutex
	conn *nftables.Conn
}

// OpenClasses connects to nftables. Needs CAP_NET_ADMIN; changes nothing.
func OpenClasses() (*Classes, error) {
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	return &Classes{conn: conn}, nil
}

// Close closes the socket. The kernel goes on sorting as it did.
func (c *Classes) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn.CloseLasting()
}

// Apply makes the table so in one transaction, or leaves it as it was; changed
// is false where nothing differed. A sorting of nothing deletes the table.
func (c *Classes) Apply(s qos.Sorting) (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	have, err := c.shape()
	if err != nil {
		return false, fmt.Errorf("read nftables table %s: %w", classTable, err)
	}
	t := &nftables.Table{Name: classTable, Family: nftables.TableFamilyINet}
	if len(s.Classes) == 0 {
		if have == nil {
			return false, nil
		}
		c.conn.DelTable(t)
		return true, c.flush()
	}
	w := &sorter{t: t, s: s, sum: digest(s), rules: map[string]int{}}
	w.plan()
	if w.is(have) {
		return false, nil
	}
	c.conn.AddTable(t) // so that the deletion finds one
	c.conn.DelTable(t)
	c.conn.AddTable(t)
	if err := w.write(c.conn); err != nil {
		return false, fmt.Errorf("sort into %d classes and %d peers: %w", len(s.Classes), len(s.Peers), err)
	}
	return true, c.flush()
}

func (c *Classes) flush() error {
	if err := c.conn.Flush(); err != nil && !lost(err) {
		return fmt.Errorf("write nftables table %s: %w", classTable, err)
	}
	return nil
}

// shape is how many rules each chain of the table has; nil: there is no table.
func (c *Classes) shape() (map[string]int, error) {
	all, err := c.conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	var out map[string]int
	for _, ch := range all {
		if ch.Table.Name != classTable {
			continue
		}
		if out == nil {
			out = map[string]int{}
		}
		rules, err := c.conn.GetRules(ch.Table, ch)
		if errors.Is(err, unix.ENOENT) {
			continue // it went meanwhile
		}
		if err != nil {
			return nil, err
		}
		out[ch.Name] = len(rules)
	}
	return out, nil
}

// digest stands in the name of an empty chain: what the rest was made from.
func digest(s qos.Sorting) string {
	sum := sha256.Sum256([]byte(fmt.Sprintf("1 %+v", s)))
	return "made_" + hex.EncodeToString(sum[:12])
}

// sorter makes the table.
type sorter struct {
	t      *nftables.Table
	s      qos.Sorting
	sum    string
	chains []sorterChain
	rules  map[string]int
	maps   []sorterMap
}

type sorterChain struct {
	chain nftables.Chain
	rules [][]expr.Any
}

type sorterMap struct {
	set      *nftables.Set
	elements []nftables.SetElement
}

func (w *sorter) is(have map[string]int) bool {
	if len(have) != len(w.rules) {
		return false
	}
	for name, n := range w.rules {
		if got, ok := have[name]; !ok || got != n {
			return false
		}
	}
	return true
}

func (w *sorter) add(c nftables.Chain, rules ...[]expr.Any) {
	w.chains = append(w.chains, sorterChain{c, rules})
	w.rules[c.Name] = len(rules)
}

// plan lists chains, those that others jump to first.
func (w *sorter) plan() {
	w.add(nftables.Chain{Name: w.sum})
	var toLeaf, toPath [][]expr.Any
	if w.s.Queues {
		// What has been sorted keeps its leaf: a packet of ESP is in that of what
		// is inside.
		toLeaf = append(toLeaf, []expr.Any{
			&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: valReg},
			&expr.Bitwise{SourceRegister: valReg, DestRegister: valReg, Len: 4, Mask: native(0xffff0000), Xor: native(0)},
			equal(valReg, native(qos.Major<<16)), &expr.Verdict{Kind: expr.VerdictAccept},
		})
	}
	for _, c := range w.s.Classes {
		leaf, path := fmt.Sprintf("leaf_%d", c.Number), fmt.Sprintf("path_%d", c.Number)
		if w.s.Queues {
			w.leaf(leaf, c.Number)
		}
		w.add(nftables.Chain{Name: path}, w.mark(c)...)
		for _, m := range matches(c) {
			toLeaf = append(toLeaf, join(m, verdict(expr.VerdictGoto, leaf)))
			toPath = append(toPath, join(m, verdict(expr.VerdictGoto, path)))
		}
	}
	if slices.ContainsFunc(w.s.Classes, func(c qos.Class) bool { return len(c.Paths) > 0 }) {
		w.add(nftables.Chain{Name: "forwarded", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle}, toPath...)
		w.add(nftables.Chain{Name: "own", Type: nftables.ChainTypeRoute, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityMangle}, toPath...)
	}
	if w.s.Queues {
		w.add(nftables.Chain{Name: "leaves", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityMangle}, toLeaf...)
	}
}

// leaf sets the priority for a class: by the peer that the packet goes to, else
// the class's own leaf.
func (w *sorter) leaf(name string, class uint8) {
	var rules [][]expr.Any
	for _, f := range families() {
		m := &nftables.Set{Table: w.t, Name: name + "_" + f.suffix, IsMap: true, Interval: true, KeyType: f.address, DataType: nftables.TypeClassID}
		elements := w.elements(f, class)
		if len(elements) == 0 {
			continue
		}
		w.maps = append(w.maps, sorterMap{m, elements})
		d := f
		d.src = f.dst
		rules = append(rules, join(d.source(), value(m), []expr.Any{&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: valReg}}, accept()))
	}
	rules = append(rules, []expr.Any{
		&expr.Immediate{Register: valReg, Data: native(qos.Major<<16 | uint32(qos.Leaf(0, class)))},
		&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: valReg}, &expr.Verdict{Kind: expr.VerdictAccept},
	})
	w.add(nftables.Chain{Name: name}, rules...)
}

// elements of a map are intervals that are next to each other: each begins where
// it says and ends where the next begins.
func (w *sorter) elements(f family, class uint8) []nftables.SetElement {
	type interval struct {
		p    netip.Prefix
		leaf uint16
	}
	var all []interval
	for _, x := range w.s.Peers {
		for _, n := range x.Networks {
			if n.Addr().Is4() == (f.proto == unix.NFPROTO_IPV4) {
				all = append(all, interval{n.Masked(), qos.Leaf(x.Slot, class)})
			}
		}
	}
	slices.SortFunc(all, func(a, b interval) int { return a.p.Addr().Compare(b.p.Addr()) })
	var out []nftables.SetElement
	var end netip.Addr
	for _, x := range all {
		if end.IsValid() && x.p.Addr().Less(end) {
			continue // inside of the one before; config refuses it
		}
		out = append(out, nftables.SetElement{Key: x.p.Addr().AsSlice(), Val: native(qos.Major<<16 | uint32(x.leaf))})
		if end = after(x.p); !end.IsValid() {
			continue // to the last address
		}
		out = append(out, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
	}
	return out
}

// after is the first address behind p; zero: there is none.
func after(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last.Next()
}

// mark gives packets of a class with its own paths their mark.
func (w *sorter) mark(c qos.Class) [][]expr.Any {
	if len(c.Paths) == 0 {
		return nil
	}
	return [][]expr.Any{{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: valReg},
		&expr.Bitwise{SourceRegister: valReg, DestRegister: valReg, Len: 4, Mask: native(^uint32(qos.MarkMask)), Xor: native(uint32(c.Number) << qos.MarkShift)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: valReg},
	}}
}

// matches are the conditions of a class, one rule each; of the rest, everything.
func matches(c qos.Class) [][]expr.Any {
	if len(c.Match) == 0 {
		return [][]expr.Any{nil}
	}
	var out [][]expr.Any
	for _, m := range c.Match {
		ports := [][]expr.Any{nil}
		if m.Port != 0 {
			ports = [][]expr.Any{port(m, 2), port(m, 0)}
		}
		nets := [][]expr.Any{nil}
		if m.Network.IsValid() {
			f := families()[0]
			if m.Network.Addr().Is6() {
				f = families()[1]
			}
			nets = [][]expr.Any{network(f, f.dst, m.Network), network(f, f.src, m.Network)}
		}
		var proto []expr.Any
		switch m.Proto {
		case "tcp":
			proto = isProtocol(unix.IPPROTO_TCP)
		case "udp":
			proto = isProtocol(unix.IPPROTO_UDP)
		}
		for _, p := range ports {
			for _, n := range nets {
				out = append(out, join(proto, p, n))
			}
		}
	}
	return out
}

// port matches a port, or a range, at an offset of the transport header.
func port(m qos.Match, offset uint32) []expr.Any {
	load := &expr.Payload{DestRegister: valReg, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2}
	if m.Last == 0 {
		return []expr.Any{load, equal(valReg, portKey(m.Port))}
	}
	return []expr.Any{load, &expr.Range{Op: expr.CmpOpEq, Register: valReg, FromData: portKey(m.Port), ToData: portKey(m.Last)}}
}

func network(f family, offset uint32, p netip.Prefix) []expr.Any {
	mask := make([]byte, f.address.Bytes)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return join(f.is(), []expr.Any{
		&expr.Payload{DestRegister: keyReg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.address.Bytes},
		&expr.Bitwise{SourceRegister: keyReg, DestRegister: keyReg, Len: f.address.Bytes, Mask: mask, Xor: make([]byte, f.address.Bytes)},
		equal(keyReg, p.Masked().Addr().AsSlice()),
	})
}

// write sends everything.
func (w *sorter) write(c *nftables.Conn) error {
	for _, m := range w.maps {
		if err := c.AddSet(m.set, nil); err != nil {
			return fmt.Errorf("map %s: %w", m.set.Name, err)
		}
		for part := range slices.Chunk(m.elements, chunk) {
			if err := c.SetAddElements(m.set, part); err != nil {
				return fmt.Errorf("map %s: %w", m.set.Name, err)
			}
		}
	}
	for _, x := range w.chains {
		ch := x.chain
		ch.Table = w.t
		c.AddChain(&ch)
	}
	for _, x := range w.chains {
		ch := x.chain
		ch.Table = w.t
		for _, r := range x.rules {
			c.AddRule(&nftables.Rule{Table: w.t, Chain: &ch, Exprs: r})
		}
	}
	return nil
}
