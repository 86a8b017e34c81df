package nft

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"komainu/netstack/steer"
)

// layoutChain is an empty chain that names the shape of the rules below. A
// table without it was made by another version and is made anew, elements and
// all, in the transaction that first needs it. Raise it with every change here.
const layoutChain = "layout_1"

// Values of the map fate.
const (
	refused uint32 = 1
	parked  uint32 = 2
)

func steerTable() *nftables.Table {
	return &nftables.Table{Name: "komainu_steer", Family: nftables.TableFamilyINet}
}

// maps are the sets of one family. Keys are daddr . l4proto . dport but in
// peers, whose keys are source addresses.
type maps struct {
	fate  *nftables.Set // refused or parked, before conntrack
	mark  *nftables.Set // connection mark of new connections; holds every service
	dnat  *nftables.Set // where new connections go
	raw   *nftables.Set // local endpoints, to be reached by steering only
	peers *nftables.Set // who may reach them directly
}

func (m maps) all() []*nftables.Set { return []*nftables.Set{m.fate, m.mark, m.dnat, m.raw, m.peers} }

func mapsOf(t *nftables.Table, f family) maps {
	key := nftables.MustConcatSetType(f.address, nftables.TypeInetProto, nftables.TypeInetService)
	endpoint := nftables.MustConcatSetType(f.address, nftables.TypeInetService)
	return maps{
		fate:  &nftables.Set{Table: t, Name: "fate" + f.suffix, IsMap: true, Concatenation: true, KeyType: key, DataType: nftables.TypeMark},
		mark:  &nftables.Set{Table: t, Name: "mark" + f.suffix, IsMap: true, Concatenation: true, KeyType: key, DataType: nftables.TypeMark},
		dnat:  &nftables.Set{Table: t, Name: "dnat" + f.suffix, IsMap: true, Concatenation: true, KeyType: key, DataType: endpoint},
		raw:   &nftables.Set{Table: t, Name: "raw" + f.suffix, Concatenation: true, KeyType: key},
		peers: &nftables.Set{Table: t, Name: "peers" + f.suffix, KeyType: f.address},
	}
}

// layout prepares the table: an older one goes in the same transaction.
func layout(c *nftables.Conn) error {
	t := steerTable()
	c.AddTable(t) // so that the deletion finds one
	c.DelTable(t)
	c.AddTable(t)
	base := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: t, Type: kind, Hooknum: hook, Priority: prio})
	}
	plain := func(name string) *nftables.Chain { return c.AddChain(&nftables.Chain{Name: name, Table: t}) }
	rule := func(ch *nftables.Chain, parts ...[]expr.Any) {
		c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: join(parts...)})
	}

	plain(layoutChain)
	refuse, park, guarded := plain("refuse"), plain("park"), plain("guarded")
	first := []*nftables.Chain{
		base("first", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw),
		base("first_own", nftables.ChainTypeRoute, nftables.ChainHookOutput, nftables.ChainPriorityRaw), // route: the mark leads elsewhere
	}
	mark := []*nftables.Chain{
		base("mark", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityMangle),
		base("mark_own", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityMangle),
	}
	translate := []*nftables.Chain{
		base("translate", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest),
		base("translate_own", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest),
	}
	guard := base("guard", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	forward := base("hairpin", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	leave := base("leave", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)

	rule(refuse, isProtocol(unix.IPPROTO_TCP), reset())
	rule(refuse, unreachable())
	// Untracked, so that the SYN which comes back from the queue is new again.
	rule(park, flags(opening, syn), setPacketMark(ParkMark), []expr.Any{&expr.Notrack{}}, accept())
	// Not yet tracked at priority raw, so this rule bites only in the chain
	// mark, and only datagrams: a parked UDP service loses them.
	rule(park, state(expr.CtStateBitNEW), drop())
	rule(guarded, loopback(expr.MetaKeyIIFNAME), accept())
	rule(guarded, ctMark(steer.ServiceMask, expr.CmpOpNeq, 0), accept())

	for _, ch := range mark {
		rule(ch, state(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept())
	}
	for _, f := range families() {
		m := mapsOf(t, f)
		for _, s := range m.all() {
			if err := c.AddSet(s, nil); err != nil {
				return err
			}
		}
		for _, ch := range first {
			rule(ch, f.key(), value(m.fate), []expr.Any{equal(valReg, native(refused))}, verdict(expr.VerdictGoto, refuse.Name))
			rule(ch, f.key(), value(m.fate), []expr.Any{equal(valReg, native(parked))}, verdict(expr.VerdictGoto, park.Name))
		}
		for _, ch := range mark {
			// A segment in the middle of a connection that conntrack doesn't
			// know (any more) is what a deleted flow leaves: reset it here,
			// also when nobody answers behind us.
			rule(ch, f.key(), value(m.mark), state(expr.CtStateBitNEW), notOpening(), reset())
			rule(ch, f.key(), value(m.fate), []expr.Any{equal(valReg, native(parked))}, verdict(expr.VerdictGoto, park.Name))
			rule(ch, state(expr.CtStateBitNEW), f.key(), value(m.mark),
				[]expr.Any{&expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: valReg}})
		}
		for _, ch := range translate {
			rule(ch, f.key(), value(m.dnat), []expr.Any{&expr.NAT{
				Type: expr.NATTypeDestNAT, Family: uint32(f.proto),
				RegAddrMin: valReg, RegProtoMin: valReg + f.words(), Specified: true,
			}})
		}
		rule(guard, f.key(), in(m.raw), verdict(expr.VerdictGoto, guarded.Name))
		rule(guarded, f.source(), in(m.peers), accept())
		// The way to the server leads back over the link by which the packet
		// came: the server would answer the client directly.
		rule(forward, state(expr.CtStateBitNEW), ctMark(steer.ServiceMask, expr.CmpOpNeq, 0), f.is(), []expr.Any{
			&expr.Fib{Register: valReg, FlagDADDR: true, FlagIIF: true, ResultOIF: true},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: valReg, Data: native(0)},
		}, setPacketMark(HairpinMark))
	}
	rule(guarded, verdict(expr.VerdictGoto, refuse.Name))
	rule(leave, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: valReg},
		&expr.Bitwise{SourceRegister: valReg, DestRegister: valReg, Len: 4, Mask: native(HairpinMark), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: valReg, Data: native(0)},
		&expr.Masq{},
	})
	return nil
}
