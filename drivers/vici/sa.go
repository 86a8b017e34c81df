package vici

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// SA is one IKE SA.
type SA struct {
	Name              string // of the connection
	ID                uint32 // unique in this run of charon
	State             string // "CONNECTING", "ESTABLISHED", "REKEYING", ... (ike_sa_state_names)
	Local, Remote     netip.AddrPort
	LocalID, RemoteID string
	Initiator         bool
	NAT               bool          // an address is translated on the way
	Suite             string        // in words of a proposal: "aes256gcm16-prfsha384-ecp384"
	Age               time.Duration // since it was established; whole seconds
	Rekey             time.Duration // until it is made anew; 0: never
	Children          []Child
}

// Child is one CHILD SA: a pair of ESP SAs.
type Child struct {
	Name              string
	ID                uint32
	State             string // "INSTALLED", "REKEYING", ... (child_sa_state_names)
	SPIIn, SPIOut     string // hexadecimal
	Encap             bool   // ESP in UDP
	IfID              uint32 // 0: none
	Suite             string
	InBytes, OutBytes uint64
	InPackets         uint64
	OutPackets        uint64
	Age               time.Duration // since it was installed
	Rekey, Life       time.Duration // until it is made anew, and until it ends
	Local, Remote     []string      // traffic selectors
}

// Up tells whether traffic can pass.
func (s SA) Up() bool {
	if s.State != "ESTABLISHED" && s.State != "REKEYING" && s.State != "REKEYED" {
		return false
	}
	return s.child() != nil
}

// Carrier is the child that carries the traffic of s, which is up.
func (s SA) Carrier() Child { return *s.child() }

// newer tells whether s, which is up, came up after t. Two that are negotiated at
// the same time may have been begun in another order.
func (s SA) newer(t SA) bool {
	c := t.child()
	return c == nil || s.child().ID > c.ID
}

// child is the newest that carries traffic.
func (s SA) child() *Child {
	var best *Child
	for i := range s.Children {
		c := &s.Children[i]
		switch c.State {
		case "INSTALLED", "UPDATING", "REKEYING", "REKEYED":
			if best == nil || c.ID > best.ID {
				best = c
			}
		}
	}
	return best
}

// sas reads the sections of a message, each one IKE SA.
func sas(m Message) []SA {
	var all []SA
	for _, i := range m {
		if i.Kind == Section {
			all = append(all, readSA(i.Name, i.Section))
		}
	}
	return all
}

func readSA(name string, m Message) SA {
	s := SA{Name: name, ID: id(m, "uniqueid"), State: m.Text("state"), Local: addrPort(m, "local"), Remote: addrPort(m, "remote"),
		LocalID: m.Text("local-id"), RemoteID: m.Text("remote-id"), Initiator: m.Text("initiator") == "yes",
		NAT:   m.Text("nat-local") == "yes" || m.Text("nat-remote") == "yes" || m.Text("nat-fake") == "yes",
		Suite: suite(m), Age: seconds(m, "established"), Rekey: seconds(m, "rekey-time")}
	for _, i := range m.Sub("child-sas") {
		if i.Kind == Section {
			s.Children = append(s.Children, readChild(i.Section))
		}
	}
	return s
}

func readChild(m Message) Child {
	n := func(name string) uint64 { v, _ := strconv.ParseUint(m.Text(name), 10, 64); return v }
	ifID, _ := strconv.ParseUint(m.Text("if-id-in"), 16, 32)
	return Child{Name: m.Text("name"), ID: id(m, "uniqueid"), State: m.Text("state"), SPIIn: m.Text("spi-in"), SPIOut: m.Text("spi-out"),
		Encap: m.Text("encap") == "yes", IfID: uint32(ifID), Suite: suite(m), InBytes: n("bytes-in"), OutBytes: n("bytes-out"),
		InPackets: n("packets-in"), OutPackets: n("packets-out"), Age: seconds(m, "install-time"), Rekey: seconds(m, "rekey-time"),
		Life: seconds(m, "life-time"), Local: m.Texts("local-ts"), Remote: m.Texts("remote-ts")}
}

func id(m Message, name string) uint32 {
	n, _ := strconv.ParseUint(m.Text(name), 10, 32)
	return uint32(n)
}

func seconds(m Message, name string) time.Duration {
	return time.Duration(number(m, name)) * time.Second
}

func addrPort(m Message, side string) netip.AddrPort {
	a, _ := netip.ParseAddr(m.Text(side + "-host"))
	p, _ := strconv.ParseUint(m.Text(side+"-port"), 10, 16)
	return netip.AddrPortFrom(a, uint16(p))
}

// algorithms are charon's names (transform enum names) in words of a proposal.
var algorithms = strings.NewReplacer("AES_GCM_16", "aes%gcm16", "AES_CBC", "aes%", "CHACHA20_POLY1305", "chacha20poly1305", "PRF_HMAC_SHA2_", "prfsha",
	"HMAC_SHA2_256_128", "sha256", "HMAC_SHA2_384_192", "sha384", "HMAC_SHA2_512_256", "sha512", "ECP_", "ecp", "MODP_", "modp", "CURVE_25519", "x25519", "CURVE_448", "x448")

// suite is what was agreed upon.
func suite(m Message) string {
	encr := strings.ReplaceAll(algorithms.Replace(m.Text("encr-alg")), "%", m.Text("encr-keysize"))
	parts := []string{encr}
	for _, name := range []string{"integ-alg", "prf-alg", "dh-group"} {
		if v := m.Text(name); v != "" {
			parts = append(parts, algorithms.Replace(v))
		}
	}
	return strings.Join(parts, "-")
}

func asRefused(err error, r **RefusedError) bool { return errors.As(err, r) }
