package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// observed is the table as the kernel has it.
type observed struct {
	flags    uint32
	chains   []*nftables.Chain
	rules    map[string][]observedRule                 // by chain
	sets     []*nftables.Set                           // those with a name
	elements map[string]map[string]nftables.SetElement // by set, then keyOf
}

type observedRule struct {
	comment string
	count   *expr.Counter // the first one
}

// observe reads the table back; nil if it isn't there. Every transaction gives
// the namespace's tables a new generation, so as long as it is the same one,
// what was read before still holds. Its counters may be old.
func (f *Filter) observe() (*observed, error) {
	before, err := f.generation()
	if err != nil {
		return nil, err
	}
	if before == f.seenIn {
		return f.seen, nil
	}
	o, err := f.observeRules()
	if err == nil && o != nil {
		err = f.observeSets(o)
	}
	if err != nil {
		return nil, err
	}
	after, err := f.generation()
	if err == nil && after == before {
		f.seen, f.seenIn = o, after
	}
	return o, err
}

// generation is the number of the last transaction in this namespace, never 0.
func (f *Filter) generation() (uint32, error) {
	msgs, err := f.counter.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, 0, 0, 0},
	})
	if err != nil {
		return 0, fmt.Errorf("read the generation: %w", err)
	}
	for _, m := range msgs {
		if len(m.Data) < 4 {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return 0, fmt.Errorf("read the generation: %w", err)
		}
		ad.ByteOrder = binary.BigEndian
		for ad.Next() {
			if ad.Type() == unix.NFTA_GEN_ID {
				return ad.Uint32(), ad.Err()
			}
		}
	}
	return 0, errors.New("read the generation: the kernel's answer has none")
}

// observeRules reads all but the sets, always afresh.
func (f *Filter) observeRules() (*observed, error) {
	t := filterTable()
	tables, err := f.conn.ListTablesOfFamily(t.Family)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	i := slices.IndexFunc(tables, func(o *nftables.Table) bool { return o.Name == t.Name })
	if i < 0 {
		return nil, nil
	}
	o := &observed{flags: tables[i].Flags, elements: map[string]map[string]nftables.SetElement{}}
	chains, err := f.conn.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	for _, c := range chains {
		if c.Table.Name != t.Name {
			continue
		}
		o.chains = append(o.chains, c)
	}
	if o.rules, err = f.dumpRules(t); err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	return o, nil
}

func (f *Filter) observeSets(o *observed) error {
	sets, err := f.conn.GetSets(filterTable())
	if err != nil {
		return fmt.Errorf("list sets: %w", err)
	}
	for _, s := range sets {
		if s.Anonymous { // belongs to its rule
			continue
		}
		o.sets = append(o.sets, s)
		if s.Dynamic { // filled by packets
			continue
		}
		elements, err := f.conn.GetSetElements(s)
		if err != nil {
			return fmt.Errorf("read set %s: %w", s.Name, err)
		}
		o.elements[s.Name] = byKey(elements)
	}
	return nil
}

// byKey orders the bounds of intervals, and links with where they lead.
func byKey(elements []nftables.SetElement) map[string]nftables.SetElement {
	keys := map[string]nftables.SetElement{}
	for _, e := range elements {
		if e.IntervalEnd && len(bytes.Trim(e.Key, "\x00")) == 0 {
			continue // nft writes this one before the first interval; it says nothing
		}
		keys[fmt.Sprint(e.IntervalEnd, e.Key, e.Val)] = nftables.SetElement{Key: e.Key, IntervalEnd: e.IntervalEnd, VerdictData: e.VerdictData}
	}
	return keys
}

// missing are the elements of a that b lacks, in order.
func missing(a, b map[string]nftables.SetElement) []nftables.SetElement {
	var all []nftables.SetElement
	for k, e := range a {
		if _, ok := b[k]; !ok {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(x, y nftables.SetElement) int {
		if c := bytes.Compare(x.Key, y.Key); c != 0 || x.IntervalEnd == y.IntervalEnd {
			return c
		}
		if x.IntervalEnd { // one ends where the next begins
			return -1
		}
		return 1
	})
	return all
}

func (w *wanted) empty() bool { return len(w.chains) == 0 && len(w.sets) == 0 }

// is says whether the kernel has exactly this.
func (w *wanted) is(have *observed) bool {
	if have == nil {
		return w.empty()
	}
	if w.empty() || have.flags != 0 || len(w.chains) != len(have.chains) || len(w.sets) != len(have.sets) {
		return false
	}
	chains, sets := have.byName()
	for _, c := range w.chains {
		o := chains[c.Name]
		if o == nil || !c.sameHook(o) || !c.samePolicy(o) || !slices.EqualFunc(c.rules, have.rules[c.Name], func(r filterRule, o observedRule) bool {
			return r.comment == o.comment
		}) {
			return false
		}
	}
	for _, s := range w.sets {
		if o := sets[s.set().Name]; o == nil || !s.same(o, have.elements[o.Name]) {
			return false
		}
	}
	return true
}

// byName are the chains and sets by their names.
func (o *observed) byName() (map[string]*nftables.Chain, map[string]*nftables.Set) {
	chains, sets := map[string]*nftables.Chain{}, map[string]*nftables.Set{}
	for _, c := range o.chains {
		chains[c.Name] = c
	}
	for _, s := range o.sets {
		sets[s.Name] = s
	}
	return chains, sets
}

func (c filterChain) sameHook(o *nftables.Chain) bool {
	if c.Name != o.Name || (c.hook == nil) != (o.Hooknum == nil) {
		return false
	}
	return c.hook == nil || *c.hook == *o.Hooknum && o.Priority != nil && c.Priority == int(*o.Priority) && o.Type == nftables.ChainTypeFilter
}

func (c filterChain) samePolicy(o *nftables.Chain) bool {
	return c.hook == nil || o.Policy != nil && *o.Policy == c.policy()
}

// sameKind says whether the kernel's set has this name and shape.
func (s filterSet) sameKind(o *nftables.Set) bool {
	w := s.set()
	// The library takes the kind of a map's verdicts for that of its keys.
	return w.Name == o.Name && w.IsMap == o.IsMap && (w.IsMap || w.KeyType.Bytes == o.KeyType.Bytes) && w.Interval == o.Interval && w.Dynamic == o.Dynamic
}

// stays says whether the kernel's set may stay; what limits have counted starts
// anew.
func (s filterSet) stays(o *nftables.Set) bool { return s.sameKind(o) && !o.Dynamic }

func (s filterSet) same(o *nftables.Set, have map[string]nftables.SetElement) bool {
	if !s.sameKind(o) {
		return false
	}
	want := byKey(s.elements)
	return o.Dynamic || len(missing(want, have))+len(missing(have, want)) == 0
}

// comment makes the user data of a rule, as nft shows it.
func comment(s string) []byte { return userdata.AppendString(nil, userdata.TypeComment, s) }

// commentOf is the comment in the user data of a rule, which may be anything;
// empty if there is none.
func commentOf(b []byte) string {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		if userdata.Type(b[0]) == userdata.TypeComment {
			return strings.TrimSuffix(string(b[2:2+int(b[1])]), "\x00")
		}
		b = b[2+int(b[1]):]
	}
	return ""
}

// nameOf is the name in a comment of ours.
func nameOf(comment string) string {
	name, _, _ := cutLast(comment, " #")
	return name
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}
