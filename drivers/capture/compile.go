package capture

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
)

// What the beginning of each program finds out about a packet and keeps in the
// scratch memory, so that a condition is a comparison or two and never reads
// behind the packet's end, which would end the program with "not wanted", also
// below a "not".
const (
	atNetwork   = iota // where the network header begins
	atEthertype        // behind all VLAN tags
	atTag              // VLAN of the outermost tag, noTag without
	atProtocol         // of IP, behind the usual extension headers; noProtocol without
	atTransport        // where the transport header begins
	atPorts            // 1: two ports are there
)

const (
	noTag      = 0xffff
	noProtocol = 0xffff

	etherV4, etherV6, etherARP = 0x0800, 0x86dd, 0x0806
	etherVLAN, etherQinQ       = 0x8100, 0x88a8

	// wanted is how much of a packet is taken: all of it.
	wanted = 0x40000
)

// Link is how packets of a link begin.
type Link uint8

// The kinds of links.
const (
	Ethernet Link = iota // its header, LINKTYPE_ETHERNET
	Raw                  // IP at once, LINKTYPE_RAW
)

// Program is the filter in the kernel's classic BPF (socket(7),
// SO_ATTACH_FILTER; Documentation/networking/filter.rst).
func (f Filter) Program(link Link) ([]bpf.RawInstruction, error) {
	// A tag that the driver or the kernel took off a frame is in the packet's
	// metadata.
	all, err := f.assemble(link, []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 3},
		bpf.LoadExtension{Num: bpf.ExtVLANTag},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xfff},
		bpf.Jump{Skip: 1},
		bpf.LoadConstant{Dst: bpf.RegA, Val: noTag},
		bpf.StoreScratch{Src: bpf.RegA, N: atTag},
	})
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(all)
	if err != nil {
		return nil, fmt.Errorf("assemble the filter %s: %w", f, err)
	}
	return raw, nil
}

// assemble makes the program; tag leaves the outer tag's VLAN at atTag.
func (f Filter) assemble(link Link, tag []bpf.Instruction) ([]bpf.Instruction, error) {
	b := &builder{}
	yes, no := b.label(), b.label()
	if f.root != nil {
		b.emit(tag...)
		b.look(link)
		f.root.compile(b, yes, no)
	}
	b.place(yes)
	b.emit(bpf.RetConstant{Val: wanted})
	b.place(no)
	b.emit(bpf.RetConstant{Val: 0})
	return b.link()
}

// label is a place in a program that is known later.
type label int

// builder makes programs with forward jumps of any length.
type builder struct {
	code   []bpf.Instruction
	places []int         // by label
	jumps  map[int]label // index of a bpf.Jump → where it leads
}

func (b *builder) emit(all ...bpf.Instruction) { b.code = append(b.code, all...) }

func (b *builder) label() label {
	b.places = append(b.places, -1)
	return label(len(b.places) - 1)
}

func (b *builder) place(l label) { b.places[l] = len(b.code) }

func (b *builder) jump(l label) {
	if b.jumps == nil {
		b.jumps = map[int]label{}
	}
	b.jumps[len(b.code)] = l
	b.emit(bpf.Jump{})
}

// test goes to yes if the accumulator compares so, else on.
func (b *builder) test(cond bpf.JumpTest, value uint32, yes label) {
	b.emit(bpf.JumpIf{Cond: cond, Val: value, SkipFalse: 1})
	b.jump(yes)
}

func (b *builder) load(slot int) { b.emit(bpf.LoadScratch{Dst: bpf.RegA, N: slot}) }
func (b *builder) keep(slot int) { b.emit(bpf.StoreScratch{Src: bpf.RegA, N: slot}) }

// at reads size bytes, n behind the place that slot holds.
func (b *builder) at(slot, n, size int) {
	b.emit(bpf.LoadScratch{Dst: bpf.RegX, N: slot}, bpf.LoadIndirect{Off: uint32(n), Size: size})
}

// long goes on only if the packet has n bytes behind the place in slot.
func (b *builder) long(slot, n int, short label) {
	b.load(slot)
	b.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: uint32(n)}, bpf.TAX{},
		bpf.LoadExtension{Num: bpf.ExtLen}, bpf.JumpIfX{Cond: bpf.JumpGreaterOrEqual, SkipTrue: 1})
	b.jump(short)
}

// link fills in the jumps.
func (b *builder) link() ([]bpf.Instruction, error) {
	const most = 4096 // BPF_MAXINSNS
	if len(b.code) > most {
		return nil, fmt.Errorf("%w: too long for the kernel", ErrFilter)
	}
	for i, l := range b.jumps {
		b.code[i] = bpf.Jump{Skip: uint32(b.places[l] - i - 1)}
	}
	return b.code, nil
}

func (b *builder) set(slot int, value uint32) {
	b.emit(bpf.LoadConstant{Dst: bpf.RegA, Val: value})
	b.keep(slot)
}

// look finds the headers.
func (b *builder) look(link Link) {
	found, v4, v6 := b.label(), b.label(), b.label()
	b.set(atEthertype, 0)
	b.set(atProtocol, noProtocol)
	b.set(atTransport, 0) // the kernel refuses to read what may not be set
	b.set(atPorts, 0)
	b.set(atNetwork, 0)
	if link == Raw {
		b.long(atNetwork, 1, found)
		b.at(atNetwork, 0, 1)
		b.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf0})
		b.test(bpf.JumpEqual, 0x40, v4)
		b.test(bpf.JumpEqual, 0x60, v6)
		b.jump(found)
	} else {
		b.tags(found)
		b.test(bpf.JumpEqual, etherV4, v4)
		b.test(bpf.JumpEqual, etherV6, v6)
		b.jump(found)
	}
	ports := b.label()
	b.place(v4)
	b.v4(found, ports)
	b.place(v6)
	b.v6(found, ports)
	b.place(ports)
	b.ports(found)
	b.place(found)
}

// tags goes behind two VLAN tags at most and leaves the type behind them in the
// accumulator.
func (b *builder) tags(short label) {
	b.set(atNetwork, 14)
	for range 2 {
		tagged, plain := b.label(), b.label()
		b.long(atNetwork, 0, short)
		b.emit(bpf.LoadScratch{Dst: bpf.RegX, N: atNetwork}, bpf.TXA{}, bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: 2}, bpf.TAX{}, bpf.LoadIndirect{Size: 2})
		b.keep(atEthertype)
		b.test(bpf.JumpEqual, etherVLAN, tagged)
		b.test(bpf.JumpEqual, etherQinQ, tagged)
		b.jump(plain)
		b.place(tagged)
		b.long(atNetwork, 4, short)
		b.load(atTag)
		inner := b.label()
		b.emit(bpf.JumpIf{Cond: bpf.JumpEqual, Val: noTag, SkipTrue: 1})
		b.jump(inner) // the outer one counts
		b.at(atNetwork, 0, 2)
		b.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xfff})
		b.keep(atTag)
		b.place(inner)
		b.load(atNetwork)
		b.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 4})
		b.keep(atNetwork)
		b.place(plain)
	}
	b.long(atNetwork, 0, short)
	b.emit(bpf.LoadScratch{Dst: bpf.RegX, N: atNetwork}, bpf.TXA{}, bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: 2}, bpf.TAX{}, bpf.LoadIndirect{Size: 2})
	b.keep(atEthertype)
}

// v4: RFC 791.
func (b *builder) v4(short, ports label) {
	b.set(atEthertype, etherV4)
	b.long(atNetwork, 20, short)
	b.at(atNetwork, 9, 1)
	b.keep(atProtocol)
	b.at(atNetwork, 0, 1)
	b.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 15}, bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 2})
	b.emit(bpf.LoadScratch{Dst: bpf.RegX, N: atNetwork}, bpf.ALUOpX{Op: bpf.ALUOpAdd})
	b.keep(atTransport)
	b.at(atNetwork, 6, 2)
	b.test(bpf.JumpBitsSet, 0x1fff, short) // a later fragment
	b.jump(ports)
}

// v6 goes over the extension headers that come before a payload (RFC 8200, 4),
// four at most.
func (b *builder) v6(short, ports label) {
	b.set(atEthertype, etherV6)
	b.long(atNetwork, 40, short)
	b.load(atNetwork)
	b.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 40})
	b.keep(atTransport)
	b.at(atNetwork, 6, 1)
	b.keep(atProtocol)
	for range 4 {
		options, fragment, next := b.label(), b.label(), b.label()
		b.load(atProtocol)
		const hop, routing, frag, destination = 0, 43, 44, 60
		b.test(bpf.JumpEqual, hop, options)
		b.test(bpf.JumpEqual, routing, options)
		b.test(bpf.JumpEqual, destination, options)
		b.test(bpf.JumpEqual, frag, fragment)
		b.jump(ports)

		b.place(fragment)
		b.long(atTransport, 8, short)
		b.at(atTransport, 0, 1)
		b.keep(atProtocol)
		b.at(atTransport, 2, 2)
		b.test(bpf.JumpBitsSet, 0xfff8, short) // a later fragment
		b.load(atTransport)
		b.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 8})
		b.keep(atTransport)
		b.jump(next)

		b.place(options)
		b.long(atTransport, 8, short)
		b.at(atTransport, 0, 1)
		b.keep(atProtocol)
		b.at(atTransport, 1, 1)
		b.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 3})
		b.emit(bpf.LoadScratch{Dst: bpf.RegX, N: atTransport}, bpf.ALUOpX{Op: bpf.ALUOpAdd})
		b.keep(atTransport)
		b.place(next)
	}
}

const protoTCP, protoUDP, protoSCTP = 6, 17, 132

func (b *builder) ports(none label) {
	have := b.label()
	b.load(atProtocol)
	b.test(bpf.JumpEqual, protoTCP, have)
	b.test(bpf.JumpEqual, protoUDP, have)
	b.test(bpf.JumpEqual, protoSCTP, have)
	b.jump(none)
	b.place(have)
	b.long(atTransport, 4, none)
	b.set(atPorts, 1)
}

func (n both) compile(b *builder, yes, no label) {
	on := b.label()
	n.a.compile(b, on, no)
	b.place(on)
	n.b.compile(b, yes, no)
}

func (n either) compile(b *builder, yes, no label) {
	on := b.label()
	n.a.compile(b, yes, on)
	b.place(on)
	n.b.compile(b, yes, no)
}

func (n not) compile(b *builder, yes, no label) { n.n.compile(b, no, yes) }

func (n port) compile(b *builder, yes, no label) {
	b.load(atPorts)
	b.test(bpf.JumpEqual, 0, no)
	for _, off := range []int{0, 2} {
		b.at(atTransport, off, 2)
		b.test(bpf.JumpEqual, uint32(n), yes)
	}
	b.jump(no)
}

func (n proto) compile(b *builder, yes, no label) {
	slot, values := atProtocol, map[proto][]uint32{"tcp": {protoTCP}, "udp": {protoUDP}, "icmp": {1, 58}, "esp": {50}}[n]
	switch n {
	case "arp":
		slot, values = atEthertype, []uint32{etherARP}
	case "ip":
		slot, values = atEthertype, []uint32{etherV4}
	case "ip6":
		slot, values = atEthertype, []uint32{etherV6}
	}
	b.load(slot)
	for _, v := range values {
		b.test(bpf.JumpEqual, v, yes)
	}
	b.jump(no)
}

func (n vlan) compile(b *builder, yes, no label) {
	b.load(atTag)
	if n == anyVLAN {
		b.test(bpf.JumpEqual, noTag, no)
		b.jump(yes)
		return
	}
	b.test(bpf.JumpEqual, uint32(n), yes)
	b.jump(no)
}

func (n host) compile(b *builder, yes, no label) {
	if n.Addr().Is6() {
		b.load(atEthertype)
		b.test(bpf.JumpNotEqual, etherV6, no)
		b.long(atNetwork, 40, no)
		b.address(8, n.Prefix, yes)
		b.address(24, n.Prefix, yes)
		b.jump(no)
		return
	}
	v4, arp := b.label(), b.label()
	b.load(atEthertype)
	b.test(bpf.JumpEqual, etherV4, v4)
	b.test(bpf.JumpEqual, etherARP, arp)
	b.jump(no)
	b.place(v4)
	b.long(atNetwork, 20, no)
	b.address(12, n.Prefix, yes)
	b.address(16, n.Prefix, yes)
	b.jump(no)
	b.place(arp) // RFC 826, of Ethernet and IPv4
	b.long(atNetwork, 28, no)
	b.address(14, n.Prefix, yes)
	b.address(24, n.Prefix, yes)
	b.jump(no)
}

func (n flow) compile(b *builder, yes, no label) {
	kind, off := uint32(etherV4), 12
	if n.Local.Addr().Is6() {
		kind, off = etherV6, 8
	}
	b.load(atEthertype)
	b.test(bpf.JumpNotEqual, kind, no)
	b.load(atProtocol)
	b.test(bpf.JumpNotEqual, protoTCP, no)
	b.load(atPorts)
	b.test(bpf.JumpEqual, 0, no)
	for _, way := range [][2]netip.AddrPort{{n.Local, n.Remote}, {n.Remote, n.Local}} {
		other := b.label()
		b.at(atTransport, 0, 4)
		b.test(bpf.JumpNotEqual, uint32(way[0].Port())<<16|uint32(way[1].Port()), other)
		addresses := append(way[0].Addr().AsSlice(), way[1].Addr().AsSlice()...)
		for i := 0; i < len(addresses); i += 4 {
			b.at(atNetwork, off+i, 4)
			b.test(bpf.JumpNotEqual, binary.BigEndian.Uint32(addresses[i:]), other)
		}
		b.jump(yes)
		b.place(other)
	}
	b.jump(no)
}

// address goes to yes if the address at off of the network header is in the
// prefix, else on.
func (b *builder) address(off int, p netip.Prefix, yes label) {
	other := b.label()
	bytes := p.Addr().AsSlice()
	for bits := p.Bits(); bits > 0 && len(bytes) > 0; bits, bytes, off = bits-32, bytes[4:], off+4 {
		mask := ^uint32(0)
		if bits < 32 {
			mask <<= 32 - bits
		}
		b.at(atNetwork, off, 4)
		b.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
		b.test(bpf.JumpNotEqual, binary.BigEndian.Uint32(bytes), other)
	}
	b.jump(yes)
	b.place(other)
}
