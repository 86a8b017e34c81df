package firewall

import "net/netip"

// Table is the name of the table, of family inet.
const Table = "komainu_filter"

// LogGroup is the NFLOG group (nfnetlink_log) that refusals are told to; the
// prefix of a message is the name of the rule.
const LogGroup = 250

// Ruleset is the whole content of the table as values.
type Ruleset struct {
	Sets   []Set
	Chains []Chain // those that others jump to first
}

// Set is a set of networks of one family that rules name.
type Set struct {
	Name     string
	V6       bool
	Networks []netip.Prefix // sorted, without overlaps
}

// Hook is where in the path of a packet a chain stands (nf_tables).
type Hook string

// The hooks. A chain without one is jumped to.
const (
	None       Hook = ""
	Prerouting Hook = "prerouting"
	Input      Hook = "input"
	Forwarding Hook = "forward"
	Output     Hook = "output"
)

// Chain is a list of rules. Priority orders chains of one hook: -300 is before
// connection tracking (raw), 0 is filter.
type Chain struct {
	Name     string
	Hook     Hook
	Priority int
	Drop     bool // what no rule decides is dropped; else accepted
	Rules    []Rule
}

// Action is what a rule does with packets that match.
type Action uint8

// The actions. Refuse answers: TCP with a reset, other packets with ICMP
// "administratively prohibited" (RFC 1812 section 5.2.7.1, RFC 4443 section 3.1).
const (
	Pass Action = iota // the packet passes this hook
	Discard
	Refuse
	Jump     // to Rule.Chain, and back
	NoTrack  // keep out of connection tracking; goes on
	ClampMSS // the MSS option of TCP becomes what the route carries; goes on
	LogOnly  // Rule.Log alone; goes on
)

// State is a set of states of connection tracking.
type State uint8

// The states (nf_conntrack).
const (
	New State = 1 << iota
	Established
	Related
	Invalid
	Untracked
)

// Rule matches packets by all of its fields that aren't zero.
type Rule struct {
	Name       string // of the counter and the log line; empty: neither
	In, Out    string // links
	OutNot     bool   // Out is any other link
	V4, V6     bool   // of this family only
	Src, Dst   netip.Prefix
	SrcSet     string // name of a Set
	DstSet     string
	SrcNot     bool   // the source is NOT in Src or SrcSet
	DstLocal   bool   // the destination is an address of this box (fib daddr type local)
	Proto      string // "tcp", "udp", "icmp", "icmpv6", "esp"
	SrcPorts   []uint16
	DstPorts   []uint16
	ICMP       []uint8 // types of Proto icmp or icmpv6
	State      State
	DNAT       bool    // the steering changed the destination (ct status dnat)
	SYN        bool    // TCP with SYN set and RST not
	Mark, Mask uint32  // packet mark; Mask 0: any
	Rate       float64 // packets/s that match; what is above goes on to the next rule; 0: all
	Burst      uint32
	PerSource  bool // Rate counts per source address, in a set of bounded size
	PerLink    bool // Rate, and the lines of Log, count per link that packets came by

	Log    bool // to LogGroup, at most 10 lines/s, burst 20
	Action Action
	Chain  string            // Action Jump
	ByIn   map[string]string // Action Jump: link → chain, instead of Chain; other links go on
}
