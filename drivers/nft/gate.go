package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"komainu/netstack/steer"
)

// ErrNoGate is returned when no gate of that name was ever applied here.
var ErrNoGate = errors.New("no such gate")

// ErrEpoch is wrapped when a gate is to be opened for epoch 0, which is the
// mark of connections that nobody marked.
var ErrEpoch = errors.New("a gate can't be opened for epoch 0")

func gateTable() *nftables.Table {
	return &nftables.Table{Name: "komainu_gate", Family: nftables.TableFamilyINet}
}

func gateChains(port uint16) (enter, leave *nftables.Chain) {
	t := gateTable()
	return &nftables.Chain{Table: t, Name: fmt.Sprintf("enter_%d", port)},
		&nftables.Chain{Table: t, Name: fmt.Sprintf("leave_%d", port)}
}

// Gate closes or opens a database's port as g says, in one transaction. Each
// port has two chains, which are replaced whole.
//
// Closed: whatever clients send to the port is answered with a reset, and
// nothing but resets leaves it. Open: a first SYN takes g.Epoch into its
// connection mark, unless steering has marked it; connections of another epoch
// are reset, and their replies dropped. Loopback and g.Peers pass always.
//
// The gate stops packets, not the server: what a blocked socket still wants to
// send goes out only in its own epoch, so a gate is never opened twice for one
// epoch, and drivers/sockdiag destroys the sockets in between.
func (s *Steering) Gate(g steer.Gate) error {
	// The name is a word in a comment of at most 128 bytes.
	if g.Port == 0 || g.Name == "" || len(g.Name) > 63 || strings.ContainsFunc(g.Name, unicode.IsSpace) {
		return fmt.Errorf("gate of database %q on port %d: it needs a port and a name of 1 to 63 bytes without spaces", g.Name, g.Port)
	}
	if g.Open && g.Epoch == 0 {
		return fmt.Errorf("gate of database %s: %w", g.Name, ErrEpoch)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.gate(g); err != nil {
		return fmt.Errorf("gate of database %s on port %d: %w", g.Name, g.Port, err)
	}
	return nil
}

func (s *Steering) gate(g steer.Gate) error {
	gates, err := s.gates()
	if err != nil {
		return err
	}
	t := gateTable()
	s.conn.AddTable(t)
	key := nftables.TypeInetService
	in := &nftables.Set{Table: t, Name: "enter", IsMap: true, KeyType: key, DataType: nftables.TypeVerdict}
	out := &nftables.Set{Table: t, Name: "leave", IsMap: true, KeyType: key, DataType: nftables.TypeVerdict}
	if gates == nil {
		if err := s.gateLayout(in, out); err != nil {
			return err
		}
	}
	for port, old := range gates {
		if old.Name == g.Name && port != g.Port { // the database has moved
			enter, leave := gateChains(port)
			k := []nftables.SetElement{{Key: portKey(port)}}
			if err := errors.Join(s.conn.SetDeleteElements(in, k), s.conn.SetDeleteElements(out, k)); err != nil {
				return err
			}
			for _, c := range []*nftables.Chain{enter, leave} {
				s.conn.FlushChain(c)
				s.conn.DelChain(c)
			}
		}
	}
	enter, leave := gateChains(g.Port)
	s.conn.AddChain(enter)
	s.conn.AddChain(leave)
	s.conn.FlushChain(enter)
	s.conn.FlushChain(leave)
	s.gateRules(g, enter, leave)
	if _, ok := gates[g.Port]; !ok {
		jump := func(c *nftables.Chain) []nftables.SetElement {
			return []nftables.SetElement{{Key: portKey(g.Port), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: c.Name}}}
		}
		if err := errors.Join(s.conn.SetAddElements(in, jump(enter)), s.conn.SetAddElements(out, jump(leave))); err != nil {
			return err
		}
	}
	return s.flush()
}

func portKey(p uint16) []byte { return []byte{byte(p >> 8), byte(p)} }

// gateLayout prepares the two base chains: port → chain of that port.
func (s *Steering) gateLayout(in, out *nftables.Set) error {
	if err := errors.Join(s.conn.AddSet(in, nil), s.conn.AddSet(out, nil)); err != nil {
		return err
	}
	for _, d := range []struct {
		set  *nftables.Set
		hook *nftables.ChainHook
		port uint32 // offset in the TCP header
	}{{in, nftables.ChainHookInput, 2}, {out, nftables.ChainHookOutput, 0}} {
		base := s.conn.AddChain(&nftables.Chain{
			Name: "gate_" + d.set.Name, Table: d.set.Table, Type: nftables.ChainTypeFilter,
			Hooknum: d.hook, Priority: nftables.ChainPriorityFilter,
		})
		s.conn.AddRule(&nftables.Rule{Table: d.set.Table, Chain: base, Exprs: join(isProtocol(unix.IPPROTO_TCP), []expr.Any{
			&expr.Payload{DestRegister: keyReg, Base: expr.PayloadBaseTransportHeader, Offset: d.port, Len: 2},
			&expr.Lookup{SourceRegister: keyReg, DestRegister: 0, IsDestRegSet: true, SetName: d.set.Name, SetID: d.set.ID},
		})})
	}
	return nil
}

// gateRules fills the chains of one port. Comments carry what gates reads back.
func (s *Steering) gateRules(g steer.Gate, enter, leave *nftables.Chain) {
	rule := func(c *nftables.Chain, comment string, parts ...[]expr.Any) {
		r := &nftables.Rule{Table: c.Table, Chain: c, Exprs: join(parts...)}
		if comment != "" {
			r.UserData = userdata.AppendString(nil, userdata.TypeComment, comment)
		}
		s.conn.AddRule(r)
	}
	epoch := uint32(g.Epoch) << 8
	header := fmt.Sprintf("gate %d %t %d %s", g.Port, g.Open, g.Epoch, g.Name)

	rule(enter, header, loopback(expr.MetaKeyIIFNAME), accept())
	rule(leave, header, loopback(expr.MetaKeyOIFNAME), accept())
	for _, p := range g.Peers {
		p = p.Unmap()
		f := families()[0]
		if !p.Is4() {
			f = families()[1]
		}
		rule(enter, "peer "+p.String(), f.source(), []expr.Any{equal(keyReg, p.AsSlice())}, accept())
		f.src = f.dst
		rule(leave, "", f.source(), []expr.Any{equal(keyReg, p.AsSlice())}, accept())
	}
	if g.Open {
		// Only a first SYN is marked: conntrack also picks up connections in
		// their middle, and those may be of any epoch.
		rule(enter, "", state(expr.CtStateBitNEW), flags(opening, syn), ctMark(steer.ServiceMask, expr.CmpOpEq, 0), []expr.Any{
			&expr.Immediate{Register: valReg, Data: native(epoch)},
			&expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: valReg},
		})
		rule(enter, "", ctMark(steer.EpochMask, expr.CmpOpEq, epoch), accept())
		rule(leave, "", ctMark(steer.EpochMask, expr.CmpOpEq, epoch), accept())
	}
	rule(enter, "", reset())
	rule(leave, "", flags(rst, rst), accept())
	rule(leave, "", drop())
}

// ObserveGate returns the gate of a database as the kernel has it, or ErrNoGate.
func (s *Steering) ObserveGate(name string) (steer.Gate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gates, err := s.gates()
	if err != nil {
		return steer.Gate{}, fmt.Errorf("observe the gate of database %s: %w", name, err)
	}
	for _, g := range gates {
		if g.Name == name {
			return g, nil
		}
	}
	return steer.Gate{}, fmt.Errorf("gate of database %s: %w", name, ErrNoGate)
}

// gates reads all gates back, by port; nil if the table isn't there.
func (s *Steering) gates() (map[uint16]steer.Gate, error) {
	t := gateTable()
	chains, err := s.chains(t)
	if err != nil || !slices.Contains(chains, "gate_enter") {
		return nil, err
	}
	gates := map[uint16]steer.Gate{}
	for _, name := range chains {
		if !strings.HasPrefix(name, "enter_") {
			continue
		}
		rules, err := s.conn.GetRules(t, &nftables.Chain{Name: name})
		if err != nil {
			return nil, fmt.Errorf("read chain %s of table komainu_gate: %w", name, err)
		}
		var g steer.Gate
		for _, r := range rules {
			comment, _ := userdata.GetString(r.UserData, userdata.TypeComment)
			if addr, ok := strings.CutPrefix(comment, "peer "); ok {
				p, err := netip.ParseAddr(addr)
				if err != nil {
					return nil, fmt.Errorf("peer in chain %s: %w", name, err)
				}
				g.Peers = append(g.Peers, p)
			} else if strings.HasPrefix(comment, "gate ") {
				if _, err := fmt.Sscanf(comment, "gate %d %t %d %s", &g.Port, &g.Open, &g.Epoch, &g.Name); err != nil {
					return nil, fmt.Errorf("comment of chain %s: %w", name, err)
				}
			}
		}
		gates[g.Port] = g
	}
	return gates, nil
}
