package nft

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers: a key starts at keyReg, a value that was looked up at valReg.
// The 4-byte registers are numbered from 8 (NFT_REG32_00).
const (
	keyReg = unix.NFT_REG32_00
	valReg = unix.NFT_REG32_08
)

// family is what differs between the two protocols inside an inet table.
type family struct {
	suffix   string // of the maps' names
	proto    byte   // NFPROTO_*
	address  nftables.SetDatatype
	src, dst uint32 // offsets of the addresses in the network header
}

// words is the number of 4-byte registers of one address.
func (f family) words() uint32 { return f.address.Bytes / 4 }

func families() [2]family {
	return [2]family{
		{"4", unix.NFPROTO_IPV4, nftables.TypeIPAddr, 12, 16},
		{"6", unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 8, 24},
	}
}

func join(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func native(v uint32) []byte { return binaryutil.NativeEndian.PutUint32(v) }

func equal(reg uint32, data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: data}
}

// isFamily: meta nfproto ipv4|ipv6
func (f family) is() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: valReg}, equal(valReg, []byte{f.proto})}
}

func isProtocol(p byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: valReg}, equal(valReg, []byte{p})}
}

// key loads daddr . l4proto . dport.
func (f family) key() []expr.Any {
	return join(f.is(), []expr.Any{
		&expr.Payload{DestRegister: keyReg, Base: expr.PayloadBaseNetworkHeader, Offset: f.dst, Len: f.address.Bytes},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: keyReg + f.words()},
		&expr.Payload{DestRegister: keyReg + f.words() + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	})
}

// source loads saddr.
func (f family) source() []expr.Any {
	return join(f.is(), []expr.Any{
		&expr.Payload{DestRegister: keyReg, Base: expr.PayloadBaseNetworkHeader, Offset: f.src, Len: f.address.Bytes},
	})
}

// in matches if the key is in the set.
func in(set *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: keyReg, SetName: set.Name, SetID: set.ID}}
}

// value looks the key up in the map; no match ends the rule.
func value(m *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: keyReg, DestRegister: valReg, IsDestRegSet: true, SetName: m.Name, SetID: m.ID}}
}

// flags matches TCP segments with exactly want among the flags of mask.
func flags(mask, want byte) []expr.Any {
	return join(isProtocol(unix.IPPROTO_TCP), []expr.Any{
		&expr.Payload{DestRegister: valReg, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: valReg, DestRegister: valReg, Len: 1, Mask: []byte{mask}, Xor: []byte{0}},
		equal(valReg, []byte{want}),
	})
}

// TCP flags (RFC 9293, 3.1).
const (
	fin, syn, rst, ack = 0x01, 0x02, 0x04, 0x10
	opening            = fin | syn | rst | ack // a first SYN has syn alone of these
)

// notOpening matches TCP segments that don't open a connection.
func notOpening() []expr.Any {
	e := flags(opening, syn)
	e[len(e)-1] = &expr.Cmp{Op: expr.CmpOpNeq, Register: valReg, Data: []byte{syn}}
	return e
}

// state matches one conntrack state bit.
func state(bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: valReg},
		&expr.Bitwise{SourceRegister: valReg, DestRegister: valReg, Len: 4, Mask: native(bit), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: valReg, Data: native(0)},
	}
}

// ctMark loads the bits of mask and compares them. Packets without a
// connection never match, whatever op is.
func ctMark(mask uint32, op expr.CmpOp, v uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyMARK, Register: valReg},
		&expr.Bitwise{SourceRegister: valReg, DestRegister: valReg, Len: 4, Mask: native(mask), Xor: native(0)},
		&expr.Cmp{Op: op, Register: valReg, Data: native(v)},
	}
}

// setPacketMark: meta mark set meta mark | bit
func setPacketMark(bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: valReg},
		&expr.Bitwise{SourceRegister: valReg, DestRegister: valReg, Len: 4, Mask: native(^bit), Xor: native(bit)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: valReg},
	}
}

// loopback matches the interface lo, incoming or outgoing by key.
func loopback(key expr.MetaKey) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: valReg},
		equal(valReg, append([]byte("lo"), make([]byte, 14)...)),
	}
}

func verdict(k expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: k, Chain: chain}}
}

func accept() []expr.Any { return verdict(expr.VerdictAccept, "") }
func drop() []expr.Any   { return verdict(expr.VerdictDrop, "") }

func reset() []expr.Any { return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}} }

func unreachable() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}}
}
