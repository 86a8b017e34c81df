package firewall

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Bounds that hold for every ruleset, here and in drivers/nft.
const (
	logLine  = `log prefix "%s" group %d snaplen 128` // bytes of the packet: both headers with options
	logRate  = 10                                     // lines per second
	logBurst = 20
	sources  = 8192 // addresses that a limit per source remembers, and links that one per link does
)

// String is the whole table as nft(8) reads it with -f, in the order in which
// drivers/nft makes it. Where more than one thing is done with a packet, the
// rule jumps to a chain of its own, "then_CHAIN_NUMBER".
func (r Ruleset) String() string {
	w := writer{v6: map[string]bool{}}
	for _, s := range r.Sets {
		w.v6[s.Name] = s.V6
	}
	var chains []string
	for _, c := range r.Chains {
		chains = append(chains, w.chain(c))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", Table)
	for _, s := range r.Sets {
		fmt.Fprintf(&b, "\tset %s {\n\t\ttype %s\n\t\tflags interval\n", s.Name, addressType(s.V6))
		if len(s.Networks) > 0 {
			fmt.Fprintf(&b, "\t\telements = { %s }\n", list(s.Networks))
		}
		b.WriteString("\t}\n")
	}
	b.WriteString(w.sets.String())
	b.WriteString(strings.Join(chains, ""))
	b.WriteString(w.then.String())
	b.WriteString("}\n")
	return b.String()
}

// writer collects what rules need beside themselves.
type writer struct {
	v6         map[string]bool // of sets
	sets, then strings.Builder
}

func addressType(v6 bool) string {
	if v6 {
		return "ipv6_addr"
	}
	return "ipv4_addr"
}

func (w *writer) chain(c Chain) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
	if c.Hook != None {
		policy := "accept"
		if c.Drop {
			policy = "drop"
		}
		fmt.Fprintf(&b, "\t\ttype filter hook %s priority %d; policy %s;\n", c.Hook, c.Priority, policy)
	}
	for i, r := range c.Rules {
		for _, line := range w.rule(r, fmt.Sprintf("%s_%d", c.Name, i)) {
			fmt.Fprintf(&b, "\t\t%s\n", line)
		}
	}
	b.WriteString("\t}\n")
	return b.String()
}

// everything says whether r matches all packets of its chain.
func (r Rule) everything() bool {
	return len(r.match(false, false)) == 0 && r.Rate == 0 && r.Name != ""
}

// rule gives the lines of a rule: two if it has to name both families, and one
// for each thing to be done if it matches everything.
func (w *writer) rule(r Rule, place string) []string {
	ends := w.ends(r, place)
	if r.everything() && len(ends) > 1 {
		return append([]string{`counter comment "` + quoted(r.Name) + `"`}, ends...)
	}
	end := strings.Join(ends, "")
	if len(ends) > 1 {
		end = "jump then_" + place
		fmt.Fprintf(&w.then, "\tchain then_%s {\n", place)
		for _, e := range ends {
			fmt.Fprintf(&w.then, "\t\t%s\n", e)
		}
		w.then.WriteString("\t}\n")
	}
	families := []bool{w.isV6(r)}
	if r.PerSource && !w.isV4(r) && !w.isV6(r) {
		families = []bool{false, true}
	}
	var lines []string
	for _, v6 := range families {
		parts := r.match(v6, !w.isV4(r) && !w.isV6(r) && r.PerSource)
		parts = append(parts, w.rate(r, v6, place)...)
		if r.Name != "" {
			parts = append(parts, "counter")
		}
		if end != "" {
			parts = append(parts, end)
		}
		if r.Name != "" {
			parts = append(parts, `comment "`+quoted(r.Name)+`"`)
		}
		lines = append(lines, strings.Join(parts, " "))
	}
	return lines
}

// quoted can stand between nft's quotes, which know no escape.
func quoted(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '"' || r < ' ' {
			return '\''
		}
		return r
	}, s)
}

func (w *writer) isV6(r Rule) bool {
	return r.V6 || r.Src.IsValid() && !r.Src.Addr().Is4() || r.Dst.IsValid() && !r.Dst.Addr().Is4() || w.v6[r.SrcSet] || w.v6[r.DstSet]
}

func (w *writer) isV4(r Rule) bool {
	return r.V4 || r.Src.IsValid() && r.Src.Addr().Is4() || r.Dst.IsValid() && r.Dst.Addr().Is4() ||
		r.SrcSet != "" && !w.v6[r.SrcSet] || r.DstSet != "" && !w.v6[r.DstSet]
}

// match gives the conditions. named: the family has to be said.
func (r Rule) match(v6, named bool) []string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	addressed := r.Src.IsValid() || r.Dst.IsValid() || r.SrcSet != "" || r.DstSet != ""
	if !addressed && (r.V4 || r.V6 || named) {
		add("meta nfproto %s", map[bool]string{false: "ipv4", true: "ipv6"}[v6])
	}
	if r.In != "" {
		add(`iifname "%s"`, r.In)
	}
	if r.Out != "" {
		add(`oifname %s"%s"`, unless(r.OutNot), r.Out)
	}
	switch {
	case len(r.SrcPorts)+len(r.DstPorts)+len(r.ICMP) > 0 || r.SYN && r.Proto == "tcp":
	case r.Proto == "icmpv6":
		add("meta l4proto ipv6-icmp")
	case r.Proto != "":
		add("meta l4proto %s", r.Proto)
	}
	if len(r.SrcPorts) > 0 {
		add("%s sport %s", r.Proto, among(r.SrcPorts, number))
	}
	if len(r.DstPorts) > 0 {
		add("%s dport %s", r.Proto, among(r.DstPorts, number))
	}
	if len(r.ICMP) > 0 {
		names := icmpNames()[r.Proto]
		add("%s type %s", r.Proto, among(r.ICMP, func(t uint8) string {
			if n := names[t]; n != "" {
				return n
			}
			return number(t)
		}))
	}
	if r.SYN {
		add("tcp flags syn / syn,rst")
	}
	ip := map[bool]string{false: "ip", true: "ip6"}[v6]
	for _, a := range []struct {
		field, set string
		one        netip.Prefix
		not        bool
	}{{"saddr", r.SrcSet, r.Src, r.SrcNot}, {"daddr", r.DstSet, r.Dst, false}} {
		if a.one.IsValid() {
			add("%s %s %s%s", ip, a.field, unless(a.not), network(a.one))
		}
		if a.set != "" {
			add("%s %s %s@%s", ip, a.field, unless(a.not), a.set)
		}
	}
	if r.DstLocal {
		add("fib daddr type local")
	}
	if r.State != 0 {
		add("ct state %s", r.State)
	}
	if r.DNAT {
		add("ct status dnat")
	}
	if r.Mask != 0 {
		add("meta mark & 0x%08x == 0x%08x", r.Mask, r.Mark&r.Mask)
	}
	return parts
}

func unless(not bool) string {
	if not {
		return "!= "
	}
	return ""
}

// String lists states as nft does.
func (s State) String() string {
	var names []string
	for i, n := range []string{"new", "established", "related", "invalid", "untracked"} {
		if s&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, ",")
}

// limit is a rate in the shortest unit in which it is a whole number.
func limit(rate float64, burst uint32) string {
	var n float64
	var unit string
	for _, u := range []struct {
		name    string
		seconds float64
	}{{"second", 1}, {"minute", 60}, {"hour", 3600}, {"day", 86400}} {
		n, unit = max(math.Round(rate*u.seconds), 1), u.name
		if math.Abs(rate*u.seconds-n) < 1e-6 {
			break
		}
	}
	return fmt.Sprintf("limit rate %.0f/%s burst %d packets", n, unit, max(burst, 1))
}

// each is a limit for each of what key gives, in a set called name. A bucket may
// be forgotten after as long as it needs to fill.
func (w *writer) each(name, kind, key string, rate float64, burst uint32) string {
	full := int(float64(max(burst, 1))/rate + 1)
	fmt.Fprintf(&w.sets, "\tset %s {\n\t\ttype %s\n\t\tsize %d\n\t\tflags dynamic,timeout\n\t\ttimeout %ds\n\t}\n", name, kind, sources, full)
	return fmt.Sprintf("update @%s { %s timeout %ds %s }", name, key, full, limit(rate, burst))
}

func (w *writer) rate(r Rule, v6 bool, place string) []string {
	switch {
	case r.Rate == 0:
		return nil
	case r.PerSource && v6:
		return []string{w.each("rate6_"+place, addressType(v6), "ip6 saddr", r.Rate, r.Burst)}
	case r.PerSource:
		return []string{w.each("rate4_"+place, addressType(v6), "ip saddr", r.Rate, r.Burst)}
	case r.PerLink:
		return []string{w.each("rate_"+place, "ifname", "iifname", r.Rate, r.Burst)}
	}
	return []string{limit(r.Rate, r.Burst)}
}

// ends are what is done with packets that match.
func (w *writer) ends(r Rule, place string) []string {
	var ends []string
	if r.Log && r.Name != "" {
		few := limit(logRate, logBurst)
		if r.PerLink {
			few = w.each("log_"+place, "ifname", "iifname", logRate, logBurst)
		}
		ends = append(ends, few+" "+fmt.Sprintf(logLine, quoted(r.Name), LogGroup))
	}
	const (
		reset      = "reject with tcp reset"
		prohibited = "reject with icmpx admin-prohibited"
	)
	switch r.Action {
	case Pass:
		ends = append(ends, "accept")
	case Discard:
		ends = append(ends, "drop")
	case Refuse:
		switch {
		case r.Proto == "tcp" || r.SYN:
			ends = append(ends, reset)
		case r.Proto != "":
			ends = append(ends, prohibited)
		default:
			ends = append(ends, "meta l4proto tcp "+reset, prohibited)
		}
	case Jump:
		if len(r.ByIn) == 0 {
			ends = append(ends, "jump "+r.Chain)
			break
		}
		var to []string
		for _, link := range slices.Sorted(maps.Keys(r.ByIn)) {
			to = append(to, fmt.Sprintf("%q : jump %s", link, r.ByIn[link]))
		}
		fmt.Fprintf(&w.sets, "\tmap links_%s {\n\t\ttype ifname : verdict\n\t\telements = { %s }\n\t}\n", place, strings.Join(to, between))
		ends = append(ends, "iifname vmap @links_"+place)
	case NoTrack:
		ends = append(ends, "notrack")
	case ClampMSS:
		ends = append(ends, "tcp option maxseg size set rt mtu")
	case LogOnly:
	}
	return ends
}

func number[T uint8 | uint16](n T) string { return strconv.Itoa(int(n)) }

// among is a value, or a set of them.
func among[T uint8 | uint16](values []T, text func(T) string) string {
	values = slices.Compact(slices.Sorted(slices.Values(values)))
	var all []string
	for _, v := range values {
		all = append(all, text(v))
	}
	if len(all) == 1 {
		return all[0]
	}
	return "{ " + strings.Join(all, ", ") + " }"
}

// between elements, as nft shows them.
const between = ",\n\t\t\t     "

func list(networks []netip.Prefix) string {
	var all []string
	for _, p := range networks {
		all = append(all, network(p))
	}
	return strings.Join(all, between)
}

// network leaves the length of single addresses out, as nft does.
func network(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.Masked().String()
}

func icmpNames() map[string]map[uint8]string {
	v4 := map[uint8]string{
		unreachable: "destination-unreachable", echoRequest: "echo-request", timeExceeded: "time-exceeded", badParameter: "parameter-problem",
	}
	v6 := map[uint8]string{
		unreachable6: "destination-unreachable", packetTooBig6: "packet-too-big", timeExceeded6: "time-exceeded", badParameter6: "parameter-problem",
		echoRequest6: "echo-request", listenerQuery: "mld-listener-query", listenerReport1: "mld-listener-report", listenerDone: "mld-listener-done",
		neighbourSolicitation: "nd-neighbor-solicit", neighbourAdvert: "nd-neighbor-advert", listenerReport: "mld2-listener-report",
	}
	return map[string]map[uint8]string{"icmp": v4, "icmpv6": v6}
}
