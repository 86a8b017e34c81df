package nft

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"komainu/netstack/firewall"
)

// match gives the conditions, cheap ones first.
func (e *ruleEncoder) match(r firewall.Rule, f *family) []expr.Any {
	var x []expr.Any
	add := func(parts ...[]expr.Any) { x = append(x, join(parts...)...) }
	if f != nil {
		add(f.is())
	}
	if r.In != "" {
		add(link(expr.MetaKeyIIFNAME, expr.CmpOpEq, r.In))
	}
	if r.Out != "" {
		op := expr.CmpOpEq
		if r.OutNot {
			op = expr.CmpOpNeq
		}
		add(link(expr.MetaKeyOIFNAME, op, r.Out))
	}
	if r.Proto != "" {
		add(isProtocol(protocolOf(r.Proto)))
	}
	types := nftables.TypeICMPType
	if r.Proto == "icmpv6" {
		types = nftables.TypeICMP6Type
	}
	port := func(p uint16) []byte { return binaryutil.BigEndian.PutUint16(p) }
	add(transport(e, 0, nftables.TypeInetService, r.SrcPorts, port),
		transport(e, 2, nftables.TypeInetService, r.DstPorts, port),
		transport(e, 0, types, r.ICMP, func(t uint8) []byte { return []byte{t} }))
	if r.SYN {
		add(flags(syn|rst, syn))
	}
	if f != nil {
		add(e.address(f.src, r.Src, r.SrcSet, r.SrcNot), e.address(f.dst, r.Dst, r.DstSet, false))
	}
	if r.DstLocal {
		add([]expr.Any{&expr.Fib{Register: valReg, FlagDADDR: true, ResultADDRTYPE: true}, equal(valReg, native(local))})
	}
	if r.State != 0 {
		add(state(stateBits(r.State)))
	}
	if r.DNAT {
		add([]expr.Any{&expr.Ct{Key: expr.CtKeySTATUS, Register: valReg}}, anyOf(dnatBit))
	}
	if r.Mask != 0 {
		add([]expr.Any{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: valReg},
			&expr.Bitwise{SourceRegister: valReg, DestRegister: valReg, Len: 4, Mask: native(r.Mask), Xor: native(0)},
			equal(valReg, native(r.Mark&r.Mask)),
		})
	}
	return x
}

func link(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: valReg}, &expr.Cmp{Op: op, Register: valReg, Data: linkKey(name)}}
}

// linkKey is a link's name as the kernel compares it.
func linkKey(name string) []byte {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return padded
}

// byIn leads packets to the chain of the link that they came by. The map has a
// name, since the library gives those without one an order of bytes in which nft
// can't show links.
func (e *ruleEncoder) byIn(to map[string]string) ([]expr.Any, error) {
	m := e.newSet("links_"+e.place, false, nftables.TypeIFName, func(s *nftables.Set) {
		s.IsMap, s.DataType, s.KeyByteOrder = true, nftables.TypeVerdict, binaryutil.NativeEndian
	})
	for name, chain := range to {
		v := &expr.Verdict{Kind: expr.VerdictJump, Chain: chain}
		// What the kernel tells of it later.
		told, err := netlink.MarshalAttributes([]netlink.Attribute{
			{Type: unix.NFTA_VERDICT_CODE, Data: binaryutil.BigEndian.PutUint32(uint32(v.Kind))}, //nolint:gosec // negative numbers are meant
			{Type: unix.NFTA_VERDICT_CHAIN, Data: []byte(chain + "\x00")},
		})
		if err != nil {
			return nil, err
		}
		m.elements = append(m.elements, nftables.SetElement{Key: linkKey(name), VerdictData: v, Val: told})
	}
	e.wanted.sets = append(e.wanted.sets, m)
	s := m.set()
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: keyReg},
		&expr.Lookup{SourceRegister: keyReg, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: s.Name, SetID: s.ID},
	}, nil
}

// anyOf matches if the register has one of bits.
func anyOf(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Bitwise{SourceRegister: valReg, DestRegister: valReg, Len: 4, Mask: native(bits), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: valReg, Data: native(0)},
	}
}

func stateBits(s firewall.State) uint32 {
	var bits uint32
	for _, b := range []struct {
		state firewall.State
		bit   uint32
	}{
		{firewall.New, expr.CtStateBitNEW}, {firewall.Established, expr.CtStateBitESTABLISHED}, {firewall.Related, expr.CtStateBitRELATED},
		{firewall.Invalid, expr.CtStateBitINVALID}, {firewall.Untracked, expr.CtStateBitUNTRACKED},
	} {
		if s&b.state != 0 {
			bits |= b.bit
		}
	}
	return bits
}

// transport matches a field of the transport header against a few values; none:
// no condition.
func transport[T uint8 | uint16](e *ruleEncoder, offset uint32, kind nftables.SetDatatype, values []T, bytes func(T) []byte) []expr.Any {
	if len(values) == 0 {
		return nil
	}
	load := &expr.Payload{DestRegister: keyReg, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: kind.Bytes}
	values = slices.Compact(slices.Sorted(slices.Values(values)))
	if len(values) == 1 {
		return []expr.Any{load, equal(keyReg, bytes(values[0]))}
	}
	set := e.newSet("__set%d", true, kind, nil)
	for _, v := range values {
		set.elements = append(set.elements, nftables.SetElement{Key: bytes(v)})
	}
	e.anon = append(e.anon, set)
	return join([]expr.Any{load}, in(set.set()))
}

// address matches an address of the network header against a prefix, a set or
// both.
func (e *ruleEncoder) address(offset uint32, p netip.Prefix, set string, not bool) []expr.Any {
	var x []expr.Any
	load := func(n int) {
		x = append(x, &expr.Payload{DestRegister: keyReg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(n)}) //nolint:gosec // 4 or 16
	}
	if p.IsValid() {
		p = p.Masked()
		b := p.Addr().AsSlice()
		load(len(b))
		if p.Bits() < p.Addr().BitLen() {
			mask := make([]byte, len(b))
			for bit := range p.Bits() {
				mask[bit/8] |= 0x80 >> (bit % 8)
			}
			x = append(x, &expr.Bitwise{SourceRegister: keyReg, DestRegister: keyReg, Len: uint32(len(b)), Mask: mask, Xor: make([]byte, len(b))}) //nolint:gosec // 4 or 16
		}
		op := expr.CmpOpEq
		if not {
			op = expr.CmpOpNeq
		}
		x = append(x, &expr.Cmp{Op: op, Register: keyReg, Data: b})
	}
	if set != "" {
		n := 4
		if e.sets[set].V6 {
			n = 16
		}
		load(n)
		x = append(x, &expr.Lookup{SourceRegister: keyReg, SetName: set, Invert: not})
	}
	return x
}

// rate lets what is within the limit through to the rest of the rule.
func (e *ruleEncoder) rate(r firewall.Rule, f *family) []expr.Any {
	limit := limitOf(r.Rate, r.Burst)
	switch {
	case r.PerSource:
		source := &expr.Payload{DestRegister: keyReg, Base: expr.PayloadBaseNetworkHeader, Offset: f.src, Len: f.address.Bytes}
		return e.each("rate"+f.suffix+"_"+e.place, f.address, source, limit, r.Rate)
	case r.PerLink:
		return e.eachLink("rate_"+e.place, limit, r.Rate)
	}
	return []expr.Any{limit}
}

// each limits what comes with the same key, which load puts into its register, in
// a set called name. A key that was silent for as long as its bucket needs to fill
// may be forgotten.
func (e *ruleEncoder) each(name string, kind nftables.SetDatatype, load expr.Any, limit *expr.Limit, rate float64) []expr.Any {
	timeout := (time.Duration(float64(limit.Burst)/rate*float64(time.Second)) + time.Second).Truncate(time.Second)
	set := e.newSet(name, false, kind, func(s *nftables.Set) {
		s.Dynamic, s.HasTimeout, s.Timeout, s.Size = true, true, timeout, sources
	})
	e.wanted.sets = append(e.wanted.sets, set)
	s := set.set()
	return []expr.Any{load,
		&expr.Dynset{SrcRegKey: keyReg, SetID: s.ID, SetName: s.Name, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: timeout, Exprs: []expr.Any{limit}}}
}

// eachLink is each for the link that packets came by.
func (e *ruleEncoder) eachLink(name string, limit *expr.Limit, rate float64) []expr.Any {
	return e.each(name, nftables.TypeIFName, &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: keyReg}, limit, rate)
}

// limitOf takes the shortest unit in which the rate is a whole number, else
// what is nearest per day.
func limitOf(rate float64, burst uint32) *expr.Limit {
	l := &expr.Limit{Type: expr.LimitTypePkts, Burst: max(burst, 1)}
	for _, l.Unit = range []expr.LimitTime{expr.LimitTimeSecond, expr.LimitTimeMinute, expr.LimitTimeHour, expr.LimitTimeDay} {
		n := rate * float64(l.Unit)
		l.Rate = max(uint64(math.Round(n)), 1)
		if math.Abs(n-float64(l.Rate)) < 1e-6 {
			break
		}
	}
	return l
}

// ends are what is done with packets that match, each a rule's end.
func (e *ruleEncoder) ends(r firewall.Rule) ([][]expr.Any, error) {
	var ends [][]expr.Any
	if r.Log && r.Name != "" {
		few := []expr.Any{limitOf(logRate, logBurst)}
		if r.PerLink {
			few = e.eachLink("log_"+e.place, limitOf(logRate, logBurst), logRate)
		}
		ends = append(ends, append(few, &expr.Log{
			Key:   1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_PREFIX | 1<<unix.NFTA_LOG_SNAPLEN,
			Group: firewall.LogGroup, Snaplen: snaplen, Data: []byte(r.Name),
		}))
	}
	prohibited := []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
	switch r.Action {
	case firewall.Pass:
		ends = append(ends, accept())
	case firewall.Discard:
		ends = append(ends, drop())
	case firewall.Refuse:
		switch {
		case r.Proto == "tcp" || r.SYN:
			ends = append(ends, reset())
		case r.Proto != "":
			ends = append(ends, prohibited)
		default:
			ends = append(ends, join(isProtocol(unix.IPPROTO_TCP), reset()), prohibited)
		}
	case firewall.Jump:
		if len(r.ByIn) > 0 {
			lead, err := e.byIn(r.ByIn)
			if err != nil {
				return nil, err
			}
			ends = append(ends, lead)
			break
		}
		ends = append(ends, verdict(expr.VerdictJump, r.Chain))
	case firewall.NoTrack:
		ends = append(ends, []expr.Any{&expr.Notrack{}})
	case firewall.ClampMSS: // the kernel only ever lowers the option
		ends = append(ends, []expr.Any{
			&expr.Rt{Register: valReg, Key: expr.RtTCPMSS},
			&expr.Byteorder{SourceRegister: valReg, DestRegister: valReg, Op: expr.ByteorderHton, Len: 2, Size: 2},
			&expr.Exthdr{SourceRegister: valReg, Type: tcpMSS, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt},
		})
	case firewall.LogOnly:
	}
	return ends, nil
}
