package nft

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"komainu/netstack/firewall"
)

// ErrRuleset is wrapped when a Ruleset has no meaning in nftables.
var ErrRuleset = errors.New("not a set of rules that nftables can hold")

const (
	maxName  = 100    // bytes: the comment holds the digest too, and nft shows 128
	sources  = 8192   // addresses, or links, that one limit for each remembers; those beyond are over it
	logRate  = 10     // lines per second and rule
	logBurst = 20     // lines
	snaplen  = 128    // bytes of the packet in a log line: both headers with options
	dnatBit  = 1 << 5 // IPS_DST_NAT
	local    = 2      // RTN_LOCAL
	tcpMSS   = 2      // kind of the TCP option (RFC 9293, 3.2)
)

// wanted is a Ruleset as nftables has it. Sets have their own numbers within
// the transaction, from 1.
type wanted struct {
	chains []filterChain
	sets   []filterSet
	ids    uint32
}

type filterChain struct {
	firewall.Chain
	hook  *nftables.ChainHook // nil: only jumped to
	rules []filterRule
}

type filterRule struct {
	sets    []filterSet // anonymous ones
	exprs   []expr.Any
	comment string
}

// filterSet makes its Set anew for each use: the library writes into it.
type filterSet struct {
	set      func() *nftables.Set
	elements []nftables.SetElement
}

func (c filterChain) policy() nftables.ChainPolicy {
	if c.Drop {
		return nftables.ChainPolicyDrop
	}
	return nftables.ChainPolicyAccept
}

func (c filterChain) chain() *nftables.Chain {
	n := &nftables.Chain{Name: c.Name, Table: filterTable()}
	if c.hook != nil {
		policy := c.policy()
		n.Type, n.Hooknum, n.Policy = nftables.ChainTypeFilter, c.hook, &policy
		n.Priority = nftables.ChainPriorityRef(nftables.ChainPriority(c.Priority)) //nolint:gosec // checked by encode
	}
	return n
}

func (w *wanted) newSet(name string, anonymous bool, key nftables.SetDatatype, edit func(*nftables.Set)) filterSet {
	w.ids++
	id := w.ids
	return filterSet{set: func() *nftables.Set {
		s := &nftables.Set{Table: filterTable(), ID: id, Name: name, Anonymous: anonymous, Constant: anonymous, KeyType: key}
		if edit != nil {
			edit(s)
		}
		return s
	}}
}

// encode turns a Ruleset into what is sent.
func encode(r firewall.Ruleset) (*wanted, error) {
	w := &wanted{}
	named := map[string]firewall.Set{}
	for _, s := range r.Sets {
		if _, ok := named[s.Name]; ok || s.Name == "" || len(s.Name) > maxName {
			return nil, fmt.Errorf("%w: set %q: its name is empty, too long or there twice", ErrRuleset, s.Name)
		}
		named[s.Name] = s
		f := families()[0]
		if s.V6 {
			f = families()[1]
		}
		set := w.newSet(s.Name, false, f.address, func(s *nftables.Set) { s.Interval = true })
		var err error
		if set.elements, err = intervals(s); err != nil {
			return nil, err
		}
		w.sets = append(w.sets, set)
	}
	chains := map[string]bool{}
	for _, c := range r.Chains {
		if chains[c.Name] || c.Name == "" || len(c.Name) > maxName {
			return nil, fmt.Errorf("%w: chain %q: its name is empty, too long or there twice", ErrRuleset, c.Name)
		}
		chains[c.Name] = true
	}
	hooks := map[firewall.Hook]*nftables.ChainHook{
		firewall.None: nil, firewall.Prerouting: nftables.ChainHookPrerouting, firewall.Input: nftables.ChainHookInput,
		firewall.Forwarding: nftables.ChainHookForward, firewall.Output: nftables.ChainHookOutput,
	}
	var then []filterChain
	for _, c := range r.Chains {
		hook, ok := hooks[c.Hook]
		if !ok || c.Priority != int(int32(c.Priority)) { //nolint:gosec // the conversion is the question
			return nil, fmt.Errorf("%w: chain %s: hook %q, priority %d", ErrRuleset, c.Name, c.Hook, c.Priority)
		}
		fc := filterChain{Chain: c, hook: hook}
		for i, rule := range c.Rules {
			e := ruleEncoder{wanted: w, sets: named, chains: chains, place: fmt.Sprintf("%s_%d", c.Name, i)}
			rules, more, err := e.encode(rule)
			if err != nil {
				return nil, fmt.Errorf("rule %d (%s) of chain %s: %w", i, rule.Name, c.Name, err)
			}
			fc.rules = append(fc.rules, rules...)
			then = append(then, more...)
		}
		w.chains = append(w.chains, fc)
	}
	for _, c := range then {
		if chains[c.Name] {
			return nil, fmt.Errorf("%w: chain %s: the name is kept for the driver", ErrRuleset, c.Name)
		}
	}
	w.chains = append(w.chains, then...)
	return w, nil
}

// intervals turns networks into the bounds that a set of intervals holds: each
// start, and each first address behind an end.
func intervals(s firewall.Set) ([]nftables.SetElement, error) {
	var all []nftables.SetElement
	var end netip.Addr // behind the last interval
	for i, p := range s.Networks {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4() == s.V6 {
			return nil, fmt.Errorf("%w: set %s: %s is no network of its family", ErrRuleset, s.Name, p)
		}
		if i > 0 && (!end.IsValid() || p.Addr().Less(end)) {
			return nil, fmt.Errorf("%w: set %s: %s overlaps the one before or isn't sorted", ErrRuleset, s.Name, p)
		}
		all = append(all, nftables.SetElement{Key: p.Addr().AsSlice()})
		last := p.Addr().AsSlice()
		for bit := p.Bits(); bit < 8*len(last); bit++ {
			last[bit/8] |= 0x80 >> (bit % 8)
		}
		a, _ := netip.AddrFromSlice(last)
		if end = a.Next(); end.IsValid() { // else the interval reaches the last address there is
			all = append(all, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	return all, nil
}

// ruleEncoder encodes one rule.
type ruleEncoder struct {
	*wanted
	sets   map[string]firewall.Set
	chains map[string]bool
	place  string      // chain and number: names what belongs to the rule
	anon   []filterSet // sets of the rule that is being made
}

// encode gives the rules that match; if more than one thing is to be done with
// what matches, they jump to a chain of their own, which is given too.
func (e *ruleEncoder) encode(r firewall.Rule) (rules []filterRule, then []filterChain, err error) {
	if err := e.check(r); err != nil {
		return nil, nil, err
	}
	fams, err := e.families(r)
	if err != nil {
		return nil, nil, err
	}
	ends, err := e.ends(r)
	if err != nil {
		return nil, nil, err
	}
	if len(ends) > 1 && r.Name != "" && r.Rate == 0 && len(fams) == 1 && len(e.match(r, fams[0])) == 0 {
		// All packets match: the chain ends here anyway.
		rules = append(rules, finish(r.Name, nil, []expr.Any{&expr.Counter{}}))
		for _, x := range ends {
			rules = append(rules, finish("", nil, x))
		}
		return rules, nil, nil
	}
	var end []expr.Any
	switch len(ends) {
	case 0:
	case 1:
		end = ends[0]
	default:
		c := filterChain{Chain: firewall.Chain{Name: "then_" + e.place}}
		for _, x := range ends {
			c.rules = append(c.rules, finish("", nil, x))
		}
		then = append(then, c)
		end = verdict(expr.VerdictJump, c.Name)
	}
	for _, f := range fams {
		e.anon = nil
		parts := e.match(r, f)
		if r.Rate > 0 {
			parts = append(parts, e.rate(r, f)...)
		}
		if r.Name != "" {
			parts = append(parts, &expr.Counter{})
		}
		rules = append(rules, finish(r.Name, e.anon, append(parts, end...)))
	}
	return rules, then, nil
}

// finish adds the comment: the name and a digest of all that the rule is.
func finish(name string, anon []filterSet, exprs []expr.Any) filterRule {
	h := sha256.New()
	for _, x := range exprs {
		b, err := expr.Marshal(unix.NFPROTO_INET, x)
		fmt.Fprintf(h, "%x %v\n", b, err)
	}
	for _, s := range anon {
		fmt.Fprintf(h, "%v\n", s.elements)
	}
	digest := fmt.Sprintf("#%x", h.Sum(nil)[:6])
	if name != "" {
		digest = name + " " + digest
	}
	return filterRule{sets: anon, exprs: exprs, comment: digest}
}

func (e *ruleEncoder) check(r firewall.Rule) error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrRuleset, what) }
	ports := len(r.SrcPorts)+len(r.DstPorts) > 0
	switch {
	case len(r.Name) > maxName || strings.ContainsRune(r.Name, 0):
		return bad("its name is longer than 100 bytes or holds a zero byte")
	case len(r.In) > 15 || len(r.Out) > 15:
		return bad("a link's name is longer than 15 bytes")
	case protocolOf(r.Proto) == 0 && r.Proto != "":
		return bad("protocol " + r.Proto)
	case ports && r.Proto != "tcp" && r.Proto != "udp":
		return bad("ports without tcp or udp")
	case len(r.ICMP) > 0 && r.Proto != "icmp" && r.Proto != "icmpv6":
		return bad("types without icmp or icmpv6")
	case r.SYN && r.Proto != "" && r.Proto != "tcp":
		return bad("SYN of another protocol than tcp")
	case r.Rate < 0 || r.Rate > 1e9 || math.IsNaN(r.Rate):
		return bad("its rate")
	case r.PerSource && r.Rate == 0:
		return bad("a limit per source without a rate")
	case r.Action == firewall.Jump && len(r.ByIn) == 0 && !e.chains[r.Chain]:
		return bad("it jumps to the unknown chain " + r.Chain)
	case len(r.ByIn) > 0 && (r.Action != firewall.Jump || r.Chain != "" || r.In != ""):
		return bad("it leads links to chains, and does or matches something else")
	case r.PerLink && r.PerSource:
		return bad("it counts per source and per link")
	case r.Action > firewall.LogOnly:
		return bad("its action")
	}
	for link, to := range r.ByIn {
		if link == "" || len(link) > 15 || !e.chains[to] {
			return bad(fmt.Sprintf("it leads link %q to chain %q", link, to))
		}
	}
	for _, name := range []string{r.SrcSet, r.DstSet} {
		if _, ok := e.sets[name]; !ok && name != "" {
			return bad("it names the unknown set " + name)
		}
	}
	return nil
}

func protocolOf(name string) byte {
	return map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "icmp": unix.IPPROTO_ICMP, "icmpv6": unix.IPPROTO_ICMPV6, "esp": unix.IPPROTO_ESP}[name]
}

// families says which address families the rule has to name; a nil one: it is
// the same for both.
func (e *ruleEncoder) families(r firewall.Rule) ([]*family, error) {
	v4, v6 := r.V4, r.V6
	for _, p := range []netip.Prefix{r.Src, r.Dst} {
		v4 = v4 || p.IsValid() && p.Addr().Is4()
		v6 = v6 || p.IsValid() && !p.Addr().Is4()
	}
	for _, name := range []string{r.SrcSet, r.DstSet} {
		v4 = v4 || name != "" && !e.sets[name].V6
		v6 = v6 || name != "" && e.sets[name].V6
	}
	f := families()
	switch {
	case v4 && v6:
		return nil, fmt.Errorf("%w: it is of both address families", ErrRuleset)
	case v4:
		return []*family{&f[0]}, nil
	case v6:
		return []*family{&f[1]}, nil
	case r.PerSource:
		return []*family{&f[0], &f[1]}, nil
	}
	return []*family{nil}, nil
}
