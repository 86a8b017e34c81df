package console

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"komainu/appliance/control"
)

// Ports of a file made by the wizard.
const (
	ordersPort = 4796
	healthPort = 8443
)

// text is the configuration that the answers mean. Keys and certificates are
// references: a site bundle brings them.
func (w *wizard) text() string {
	var b strings.Builder
	put := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	name, label, _ := strings.Cut(strings.TrimSpace(w.answer["site"]), " ")
	role, lang := w.answer["role"], w.answer["language"]
	put("schema = 1\n\n[site]\nname = %s", quote(name))
	if label = strings.TrimSpace(label); label != "" {
		put("label = %s", quote(label))
	}
	put("role = %s\nlang = %s\n\n[heartbeat]\nkey = \"secret:heartbeat\"", quote(role), quote(lang))

	line, _ := w.on(w.answer["line"])
	office, _ := w.on(w.answer["office"])
	if len(line.ports) > 1 {
		var places []string
		for _, p := range line.ports {
			places = append(places, quote(place(p)))
		}
		put("\n[[bond]]\nname = \"bond0\"\nports = [%s]\nmode = %s", strings.Join(places, ", "), quote(w.answer["bond"]))
	}
	address := w.word("address", 0)
	put("\n[[interface]]\nname = \"wan\"\non = %s\naddress = [%s]", quote(line.link()), quote(address))
	put("\n[[interface]]\nname = \"office\"\non = %s\naddress = [%s]", quote(office.link()), quote(w.answer["office-address"]))

	own, _ := netip.ParsePrefix(w.answer["office-address"])
	local, _ := netip.ParsePrefix(address)
	peer := strings.Fields(w.answer["peer"])
	other := map[bool]string{true: "dc-edge", false: "town-hall"}[w.hall()]
	put("\n[[peer]]\nname = %s\nrole = %s", quote(peer[0]), quote(other))
	var networks, source []string
	for _, n := range peer[2:] {
		networks = append(networks, quote(n))
		if p, err := netip.ParsePrefix(n); err == nil && p.Addr().Is4() == own.Addr().Is4() {
			source = []string{quote(own.Addr().String())}
		}
	}
	if networks != nil {
		put("networks = [%s]", strings.Join(networks, ", "))
	}
	if source != nil {
		put("source = [%s]", source[0])
	}
	remote, _ := netip.ParseAddr(peer[1])
	if w.hall() {
		put("orders = %s", quote(netip.AddrPortFrom(remote, ordersPort).String()))
	}
	put("\n[[path]]\nname = %s\npeer = %s\ninterface = \"wan\"\nlocal = %s\nremote = %s\ngateway = [%s]",
		quote(peer[0]), quote(peer[0]), quote(local.Addr().String()), quote(remote.String()), quote(w.gateway()))
	put("\n[orders]")
	if !w.hall() {
		put("listen = %s", quote(netip.AddrPortFrom(local.Addr(), ordersPort).String()))
	}
	put("certificate = %s\nkey = \"secret:box-key\"\nca = \"pki/ca.pem\"", quote("pki/"+name+".pem"))
	put("\n[health]\nlisten = \"office:%d\"", healthPort)
	if t := w.answer["time"]; t != "-" {
		var all []string
		for _, s := range strings.Fields(t) {
			all = append(all, quote(s))
		}
		put("\n[ntp]\nupstream = [%s]\nserve = [\"office\"]", strings.Join(all, ", "))
	}
	if s := w.answer["ssh"]; s != "-" {
		put("\n[console]\nssh = [\"office:%s\"]", s)
	}
	return b.String()
}

// place is how a configuration names p.
func place(p control.Port) string {
	if p.PCI == "" {
		return p.Name
	}
	return "pci:" + p.PCI
}

// link is what an interface stands on.
func (o on) link() string {
	s := place(o.ports[0])
	if len(o.ports) > 1 {
		s = "bond0"
	}
	if o.vlan > 0 {
		s += "." + strconv.Itoa(o.vlan)
	}
	return s
}

// quote makes a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case !unicode.IsControl(r):
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
