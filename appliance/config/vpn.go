package config

import (
	"hash/fnv"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"komainu/appliance/agent"
	"komainu/netstack/firewall"
	"komainu/netstack/spec"
)

// VPN is one [[vpn]]: an encrypted tunnel (IKEv2, RFC 7296), whose inside is an
// interface of that name. Paths and routes lead over it without a next hop.
type VPN struct {
	Name      string
	Link      string         // the kernel's name of the inside
	Interface string         // the line that it runs over
	Local     netip.Addr     // outer, ours; default: the first of Interface in the family of Remote
	Remote    netip.Addr     // outer, the peer's; zero: any ("any"), for who waits
	Addresses []netip.Prefix // inside, with host bits
	Initiate  bool           // this side begins; default: at a town hall

	// References "secret:NAME" or files. Either a pre-shared key, or a
	// certificate with its key and authorities; CRL may be empty.
	PSK, Certificate, Key, CA, CRL string

	ID       string // what this box proves to be
	RemoteID string // what the peer must prove to be

	IKE, ESP  []string      // proposals in charon's words, best first
	RekeyIKE  time.Duration // default 4 h
	Rekey     time.Duration // default 1 h
	Encap     bool          // ESP in UDP even without NAT on the way
	Protect   []Protect     // none: everything, the route decides
	MTU       int           // bytes; 0 ("auto"): as the line's path really is
	IfID      uint32        // not 0; default: from the name
	remoteAny bool

	src *table
}

// Protect is one pair of networks that may speak through a tunnel. With several
// pairs, every local network may speak with every remote one.
type Protect struct{ Local, Remote netip.Prefix }

// ByPSK tells whether v proves itself with a pre-shared key.
func (v VPN) ByPSK() bool { return v.PSK != "" }

// face is the inside of v as an interface.
func (v VPN) face() *Interface {
	return &Interface{Name: v.Name, Link: v.Link, Addresses: v.Addresses, MTU: v.MTU, Side: firewall.Tunnel, Metric: defaultMetric, src: v.src}
}

// Tunnels are the tunnels of this box, in the order of the file. What may pass
// always includes the inner networks, over which heartbeats go.
func (f *File) Tunnels() []spec.Tunnel {
	var out []spec.Tunnel
	for _, v := range f.VPNs {
		t := spec.Tunnel{Name: v.Name, Link: v.Link, IfID: v.IfID, Line: v.Interface, Local: v.Local, Remote: v.Remote, LocalID: v.ID, RemoteID: v.RemoteID,
			PSK: v.ByPSK(), Initiate: v.Initiate, IKE: v.IKE, ESP: v.ESP, RekeyIKE: v.RekeyIKE, RekeyESP: v.Rekey, Encap: v.Encap}
		if len(v.Protect) > 0 {
			for _, a := range v.Addresses {
				t.Inner, t.Beyond = append(t.Inner, a.Masked()), append(t.Beyond, a.Masked())
			}
		}
		for _, p := range v.Protect {
			t.Inner, t.Beyond = append(t.Inner, p.Local), append(t.Beyond, p.Remote)
		}
		t.Inner, t.Beyond = distinct(t.Inner), distinct(t.Beyond)
		out = append(out, t)
	}
	return out
}

// distinct is ps with each prefix once, in order.
func distinct(ps []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range ps {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// idForm is an identity of IKE: a name, an address, a mail address or a
// distinguished name. Nothing in it may stand for several ("%any", "*").
var idForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 .,:=@_-]{0,254}$`)

// Default proposals: CRYPTREC's, with the strength of a 192 bit security level
// (RFC 6379) and a new key exchange at every rekeying.
const (
	defaultIKE = "aes256gcm16-prfsha384-ecp384"
	defaultESP = "aes256gcm16-ecp384"
)

func (r *reader) vpn(t *table, role agent.Role) VPN {
	v := VPN{Name: r.ident(t, "name"), Initiate: role == agent.TownHall, src: t}
	r.word(t, "type", []string{"ikev2"}, "wireguard")
	if v.Name != "" {
		v.Link = madeLink(vpnPrefix, v.Name)
	}
	v.Interface = r.ident(t, "interface")
	v.Local = r.addr(t, "local", false)
	if x := t.vals["remote"]; x != nil && x.text == "any" && x.kind == unstable.String {
		r.get(t, "remote")
		v.remoteAny = true
	} else {
		v.Remote = r.addr(t, "remote", true)
	}
	v.Addresses = r.hosts(t, "address")
	v.Initiate = r.yes(t, "initiate", v.Initiate)
	if v.Initiate && v.remoteAny {
		r.bad(t.place("remote"), "config-vpn-any")
	}
	r.proof(t, &v)
	v.ID = r.form(t, "id", true, idForm, "config-vpn-id")
	v.RemoteID = r.form(t, "remote-id", true, idForm, "config-vpn-id")
	if v.ID != "" && strings.EqualFold(v.ID, v.RemoteID) {
		r.bad(t.place("remote-id"), "config-vpn-self", v.ID)
	}
	v.IKE = r.suites(t, "ike", defaultIKE, false)
	v.ESP = r.suites(t, "esp", defaultESP, true)
	v.RekeyIKE = r.duration(t, "rekey-ike", 4*time.Hour, 10*time.Second, 24*time.Hour)
	v.Rekey = r.duration(t, "rekey", time.Hour, 10*time.Second, 8*time.Hour)
	v.Encap = r.yes(t, "encap", false)
	r.children(t, "protect", func(p *table) {
		x := Protect{Local: r.network(p, "local", true), Remote: r.network(p, "remote", true)}
		if x.Local.IsValid() && x.Remote.IsValid() {
			if x.Local.Addr().Is4() != x.Remote.Addr().Is4() {
				r.bad(p.place("remote"), "config-families", "remote", "local")
			}
			v.Protect = append(v.Protect, x)
		}
	})
	if x := t.vals["mtu"]; x != nil && x.kind == unstable.String {
		if r.get(t, "mtu"); x.text != "auto" {
			r.bad(x.at, "config-vpn-mtu", x.text)
		}
	} else {
		// 576 is the least of IPv4 (RFC 791); what doesn't fit into the line goes in fragments.
		v.MTU = int(r.number(t, "mtu", 0, 576, 9216))
	}
	if _, v6 := families(v.Addresses); v6 && v.MTU != 0 && v.MTU < 1280 {
		r.bad(t.place("mtu"), "config-mtu-ipv6", t.vals["mtu"].text)
	}
	v.IfID = uint32(r.number(t, "if-id", 0, 1, 1<<32-1))
	if v.IfID == 0 && v.Name != "" {
		v.IfID = ifID(v.Name)
	}
	return v
}

// ifID is the number of a tunnel whose configuration has none. Only this box
// uses it.
func ifID(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name)) // never fails
	return max(1, h.Sum32())
}

// proof reads what v proves itself with, by one of two ways.
func (r *reader) proof(t *table, v *VPN) {
	certs := []string{"certificate", "key", "ca", "crl"}
	if r.word(t, "auth", []string{"cert", "psk"}) == "psk" {
		v.PSK = r.secret(t, "psk", true)
		for _, key := range certs {
			r.get(t, key)
			if x := t.vals[key]; x != nil {
				r.bad(x.key, "config-only-with", key, `auth = "cert"`)
			}
		}
		return
	}
	v.Certificate, v.Key, v.CA = r.file(t, "certificate", true), r.file(t, "key", true), r.file(t, "ca", true)
	v.CRL = r.file(t, "crl", false)
	r.get(t, "psk")
	if x := t.vals["psk"]; x != nil {
		r.bad(x.key, "config-only-with", "psk", `auth = "psk"`)
		r.hide()
	}
}

// fixedMTU is what the tunnel of an interface carries by the configuration; 0:
// found out, or no tunnel.
func (f *File) fixedMTU(name string) int {
	if v := f.vpn(name); v != nil {
		return v.MTU
	}
	return 0
}
