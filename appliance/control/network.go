package control

import "time"

// NetworkPath answers a GET with Network, role viewer.
const NetworkPath = "/v1/network"

// Network is what the agent knows of links, gateways and the firewall.
type Network struct {
	Digest   string     `json:"digest"`  // SHA-256 of the configuration that the agent works with, hexadecimal
	Settled  bool       `json:"settled"` // the kernel is as the configuration says
	Problems []Reason   `json:"problems,omitempty"`
	Links    []NetLink  `json:"links"`
	Gateways []Gateway  `json:"gateways,omitempty"`
	Refused  []Refusals `json:"refused,omitempty"`
	Drift    []Drift    `json:"drift,omitempty"` // the last ones, newest first
}

// NetLink is one link of the kernel.
type NetLink struct {
	Name      string   `json:"name"`                // the kernel's
	Interface string   `json:"interface,omitempty"` // of the configuration; empty: none
	Kind      string   `json:"kind"`                // of netstack/spec
	Place     string   `json:"place,omitempty"`     // "pci:0000:02:00.0"
	MAC       string   `json:"mac,omitempty"`
	Master    string   `json:"master,omitempty"`
	Up        bool     `json:"up"`
	Carrier   bool     `json:"carrier"`
	Mbit      int      `json:"mbit,omitempty"`   // 0: unknown
	Duplex    string   `json:"duplex,omitempty"` // "full", "half"
	MTU       int      `json:"mtu"`
	Addresses []string `json:"addresses,omitempty"` // with prefix length
	Zone      string   `json:"zone,omitempty"`      // of netstack/firewall
	Counters  Counters `json:"counters"`
	Bond      *Bond    `json:"bond,omitempty"`
}

// Counters are the kernel's, since the link was made.
type Counters struct {
	RxBytes   uint64 `json:"rx_bytes"`
	TxBytes   uint64 `json:"tx_bytes"`
	RxPackets uint64 `json:"rx_packets"`
	TxPackets uint64 `json:"tx_packets"`
	RxErrors  uint64 `json:"rx_errors"`
	TxErrors  uint64 `json:"tx_errors"`
	RxDropped uint64 `json:"rx_dropped"`
	TxDropped uint64 `json:"tx_dropped"`
}

// Bond is the state of a bond.
type Bond struct {
	Mode    string     `json:"mode"`
	Active  string     `json:"active,omitempty"`  // active-backup: the port in use
	Partner string     `json:"partner,omitempty"` // 802.3ad: MAC of the switch; empty: no partner
	Ports   []BondPort `json:"ports"`
}

// BondPort is one port of a bond.
type BondPort struct {
	Name     string `json:"name"`
	Carrier  bool   `json:"carrier"`
	Active   bool   `json:"active"` // carries traffic: in use, or in the active aggregator
	Failures int    `json:"failures"`
}

// Gateway is one next hop and whether it is used.
type Gateway struct {
	Address   string `json:"address"`
	Interface string `json:"interface"`
	Metric    int    `json:"metric"`
	Used      bool   `json:"used"`
	Reason    Reason `json:"reason"` // why not
}

// Refusals count what one rule of the firewall refused.
type Refusals struct {
	Rule    string `json:"rule"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Drift is one difference that somebody made by hand and the agent put right.
type Drift struct {
	At     time.Time `json:"at"`
	Change string    `json:"change"` // what was done about it, as netstack/plan says it
}

// AccessPath answers a GET with []AccessEntry, newest first, role viewer;
// ?last=N bounds them (default 50).
const AccessPath = "/v1/network/access"

// AccessEntry is one refused access, a line of STATE/log/access.ndjson: when,
// from which terminal, to what, by which rule (OFD-20).
type AccessEntry struct {
	Time     time.Time `json:"time"`
	Rule     string    `json:"rule"` // of the firewall: "input office", "spoofed"
	In       string    `json:"in"`   // link
	From     string    `json:"from"`
	FromPort uint16    `json:"from_port,omitempty"`
	To       string    `json:"to"`
	ToPort   uint16    `json:"to_port,omitempty"`
	Proto    string    `json:"proto"` // "tcp", "udp", "icmp", "icmpv6", or the number
	Count    int       `json:"count"` // equal ones within a second; more may have been dropped before the log
}
