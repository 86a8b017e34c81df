package tc

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

// Attributes of qdiscs and classes (linux/pkt_sched.h).
const (
	htbParms = 1 // struct tc_htb_opt
	htbInit  = 2 // struct tc_htb_glob

	fqTarget   = 1 // µs
	fqLimit    = 2 // packets
	fqInterval = 3 // µs
	fqECN      = 4
	fqFlows    = 5
	fqQuantum  = 6 // bytes
	fqMemory   = 9 // bytes

	cakeRate     = 2 // bytes/s, 64 bits
	cakeDiffServ = 3
	cakeOverhead = 6 // bytes
)

// Sizes of structs (linux/pkt_sched.h, linux/rtnetlink.h).
const (
	tcmsgSize  = 20
	optSize    = 44 // tc_htb_opt
	globSize   = 20 // tc_htb_glob
	statsSize  = 36 // tc_stats, without what pads its end
	globRest   = 8  // offset of defcls
	htbVersion = 3
	rateToQ    = 10 // rate2quantum; unused, every class has its quantum
)

// numbers appends them.
func numbers(b []byte, all ...uint32) []byte {
	for _, n := range all {
		b = binary.NativeEndian.AppendUint32(b, n)
	}
	return b
}

// head is a struct tcmsg.
func head(index, handle, parent uint32) []byte {
	return numbers(make([]byte, 0, 128), 0, index, handle, parent, 0)
}

// object is the body of a message about a qdisc or class of a kind.
func object(index, handle, parent uint32, kind string, options []byte) []byte {
	b := attribute(head(index, handle, parent), unix.TCA_KIND, append([]byte(kind), 0))
	return attribute(b, unix.TCA_OPTIONS, options)
}

// htbClass is what a class of HTB is made with.
type htbClass struct {
	rate, ceil      uint32 // bytes/s
	overhead        uint16
	buffer, cbuffer uint32 // ticks that a burst takes
	quantum         uint32 // bytes
	level           uint32 // the kernel's: 0 has no children
	prio            uint32
}

func (o htbClass) options() []byte {
	b := make([]byte, 0, optSize)
	for _, rate := range []uint32{o.rate, o.ceil} { // struct tc_ratespec
		b = append(b, 0, ethernet)
		b = binary.NativeEndian.AppendUint16(b, o.overhead)
		b = numbers(b, 0, rate)
	}
	return attribute(make([]byte, 0, optSize+unix.SizeofRtAttr), htbParms, numbers(b, o.buffer, o.cbuffer, o.quantum, 0, o.prio))
}

// readClass is the class that options tell of.
func readClass(options []byte) (htbClass, bool) {
	for kind, b := range attributes(options) {
		if kind != htbParms || len(b) < optSize {
			continue
		}
		at := func(i int) uint32 { return binary.NativeEndian.Uint32(b[i:]) }
		return htbClass{rate: at(8), ceil: at(20), overhead: binary.NativeEndian.Uint16(b[2:]), buffer: at(24), cbuffer: at(28), quantum: at(32), level: at(36), prio: at(40)}, true
	}
	return htbClass{}, false
}

func htbOptions(rest uint16) []byte {
	return attribute(nil, htbInit, numbers(nil, htbVersion, rateToQ, uint32(rest), 0, 0))
}

// readRest is where an HTB sends unsorted packets.
func readRest(options []byte) uint16 {
	for kind, b := range attributes(options) {
		if kind == htbInit && len(b) >= globSize {
			return uint16(binary.NativeEndian.Uint32(b[globRest:]))
		}
	}
	return 0
}

// leaf is an fq_codel.
type leaf struct {
	target, interval uint32 // µs
	limit            uint32 // packets
	flows            uint32
	memory           uint32 // bytes
	quantum          uint32 // bytes
}

// options for a leaf; the flows of one that is there can't be changed.
func (l leaf) options(there bool) []byte {
	b := make([]byte, 0, 64)
	number := func(kind uint16, n uint32) { b = attribute(b, kind, numbers(nil, n)) }
	number(fqTarget, l.target)
	number(fqLimit, l.limit)
	number(fqInterval, l.interval)
	number(fqECN, 1)
	if !there {
		number(fqFlows, l.flows)
	}
	number(fqQuantum, l.quantum)
	number(fqMemory, l.memory)
	return b
}

func readLeaf(options []byte) leaf {
	var l leaf
	for kind, b := range attributes(options) {
		if len(b) != 4 {
			continue
		}
		n := binary.NativeEndian.Uint32(b)
		switch kind {
		case fqTarget:
			l.target = n
		case fqLimit:
			l.limit = n
		case fqInterval:
			l.interval = n
		case fqFlows:
			l.flows = n
		case fqQuantum:
			l.quantum = n
		case fqMemory:
			l.memory = n
		}
	}
	return l
}

// cake is a CAKE.
type cake struct {
	rate               uint64 // bytes/s
	overhead, diffServ uint32
}

func (c cake) options() []byte {
	b := attribute(nil, cakeRate, binary.NativeEndian.AppendUint64(nil, c.rate))
	b = attribute(b, cakeOverhead, numbers(nil, c.overhead))
	return attribute(b, cakeDiffServ, numbers(nil, c.diffServ))
}

func readCake(options []byte) cake {
	var c cake
	for kind, b := range attributes(options) {
		switch {
		case kind == cakeRate && len(b) == 8:
			c.rate = binary.NativeEndian.Uint64(b)
		case kind == cakeOverhead && len(b) == 4:
			c.overhead = binary.NativeEndian.Uint32(b)
		case kind == cakeDiffServ && len(b) == 4:
			c.diffServ = binary.NativeEndian.Uint32(b)
		}
	}
	return c
}

// stats are what a qdisc or class counted: TCA_STATS, struct tc_stats.
type stats struct {
	bytes                   uint64
	packets, drops, backlog uint32
}

// heard is what the kernel tells of one qdisc or class.
type heard struct {
	index, handle, parent uint32
	kind                  string
	options               []byte // until the next receive
	stats                 stats
}

func read(b []byte) (heard, bool) {
	if len(b) < tcmsgSize {
		return heard{}, false
	}
	at := func(i int) uint32 { return binary.NativeEndian.Uint32(b[i:]) }
	h := heard{index: at(4), handle: at(8), parent: at(12)}
	for kind, b := range attributes(b[tcmsgSize:]) {
		switch {
		case kind == unix.TCA_KIND:
			h.kind = strings.TrimRight(string(b), "\x00")
		case kind == unix.TCA_OPTIONS:
			h.options = b
		case kind == unix.TCA_STATS && len(b) >= statsSize:
			at := func(i int) uint32 { return binary.NativeEndian.Uint32(b[i:]) }
			h.stats = stats{bytes: binary.NativeEndian.Uint64(b), packets: at(8), drops: at(12), backlog: at(32)}
		}
	}
	return h, true
}
