package console

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"komainu/appliance/control"
)

// wizard is what the first set-up knows: answers by question, valid ones only.
// It is pure: the screen part is in setup.go.
type wizard struct {
	ports  []control.Port
	answer map[string]string
}

// question is one of the wizard's. The row of its words is "setup-ask-" + key.
type question struct {
	key     string
	when    func(w *wizard) bool   // nil: always asked
	preset  func(w *wizard) string // what Enter takes
	check   func(w *wizard, s string) error
	explain func(w *wizard) string // shown before it; nil: nothing
}

var siteForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// questions stand in the order in which they are asked.
func questions() []question {
	fixed := func(s string) func(*wizard) string { return func(*wizard) string { return s } }
	byRole := func(hall, edge string) func(*wizard) string {
		return func(w *wizard) string {
			if w.hall() {
				return hall
			}
			return edge
		}
	}
	return []question{
		{key: "language", preset: fixed("ja"), check: oneOf("ja", "en")},
		{key: "role", preset: fixed("town-hall"), check: oneOf("town-hall", "dc-edge")},
		{key: "site", preset: byRole("", "dc-edge"), check: checkSite},
		{key: "line", preset: func(w *wizard) string { return w.portNumber(0) }, check: checkPorts, explain: (*wizard).portList},
		{key: "bond", when: (*wizard).bonded, preset: fixed("802.3ad"), check: oneOf("802.3ad", "active-backup")},
		{key: "address", preset: fixed(""), check: checkLine},
		{key: "office", preset: func(w *wizard) string { return w.portNumber(1) }, check: checkOffice, explain: (*wizard).portList},
		{key: "office-address", preset: byRole("192.168.50.1/24", "10.1.4.1/24"), check: checkOfficeAddress},
		{key: "peer", preset: func(w *wizard) string {
			if w.hall() {
				return "dc-edge " + w.gateway()
			}
			return ""
		}, check: checkPeer},
		{key: "time", preset: fixed("-"), check: checkTime},
		{key: "ssh", preset: fixed("22"), check: checkPort},
	}
}

func (w *wizard) hall() bool { return w.answer["role"] != "dc-edge" }

// word is word n of an answer; empty: it has fewer.
func (w *wizard) word(key string, n int) string {
	if f := strings.Fields(w.answer[key]); n < len(f) {
		return f[n]
	}
	return ""
}

func (w *wizard) gateway() string { return w.word("address", 1) }

func (w *wizard) portNumber(n int) string {
	if n < len(w.ports) {
		return fmt.Sprint(n + 1)
	}
	return ""
}

// portList shows the machine's ports, to be asked for again with Enter after a
// cable was plugged.
func (w *wizard) portList() string {
	var s sheet
	for i, p := range w.ports {
		carrier := "-"
		if p.Carrier {
			carrier = "UP"
			if p.Mbit > 0 {
				carrier += fmt.Sprintf(" %d Mbit/s", p.Mbit)
			}
		}
		s.add(fmt.Sprintf("  %d  %s", i+1, p.Name), strings.TrimSpace(p.PCI+"  "+p.Driver+"  "+p.MAC+"  "+carrier))
	}
	return s.text()
}

func oneOf(all ...string) func(*wizard, string) error {
	return func(_ *wizard, s string) error {
		if !slices.Contains(all, s) {
			return usage("usage-value", s, strings.Join(all, ", "))
		}
		return nil
	}
}

// checkSite: "NAME" or "NAME LABEL".
func checkSite(_ *wizard, s string) error {
	name, label, _ := strings.Cut(s, " ")
	if !siteForm.MatchString(name) || strings.ContainsFunc(label, unicode.IsControl) {
		return usage("setup-want-site", name)
	}
	return nil
}

// on is an answer about ports: "1", "eth1", "1,2" (a bond), ".110" behind it
// for a VLAN.
type on struct {
	ports []control.Port
	vlan  int // 0: none
}

func (w *wizard) on(s string) (on, error) {
	var o on
	s = strings.ReplaceAll(s, " ", "")
	if k := strings.LastIndex(s, "."); k >= 0 {
		n, err := strconv.Atoi(s[k+1:])
		if err != nil || n < 1 || n > 4094 {
			return o, usage("setup-want-vlan", s[k+1:])
		}
		o.vlan, s = n, s[:k]
	}
	for _, word := range strings.Split(s, ",") {
		k := slices.IndexFunc(w.ports, func(p control.Port) bool { return p.Name == word })
		if n, err := strconv.Atoi(word); err == nil {
			k = n - 1
		}
		if k < 0 || k >= len(w.ports) {
			return o, usage("setup-want-port", word)
		}
		if slices.Contains(o.ports, w.ports[k]) {
			return o, usage("setup-port-twice", word)
		}
		o.ports = append(o.ports, w.ports[k])
	}
	return o, nil
}

func checkPorts(w *wizard, s string) error {
	_, err := w.on(s)
	return err
}

// checkOffice: other ports than the line, or the same ones with another VLAN.
func checkOffice(w *wizard, s string) error {
	office, err := w.on(s)
	if err != nil {
		return err
	}
	line, err := w.on(w.answer["line"])
	if err != nil {
		return err
	}
	shared := slices.ContainsFunc(office.ports, func(p control.Port) bool { return slices.Contains(line.ports, p) })
	same := slices.Equal(office.ports, line.ports)
	if shared && (!same || office.vlan == line.vlan) || len(office.ports) > 1 && !same {
		return usage("setup-port-shared", s)
	}
	return nil
}

func (w *wizard) bonded() bool {
	o, err := w.on(w.answer["line"])
	return err == nil && len(o.ports) > 1
}

func host(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.IsValid() || p.Addr().IsMulticast() || p.Addr().IsLoopback() || p.Addr().IsUnspecified() || p.Addr().Zone() != "" ||
		p.Addr().Is4() && p.Bits() < 31 && p.Masked().Addr() == p.Addr() {
		return p, usage("setup-want-address", s)
	}
	return p, nil
}

// checkLine: "ADDRESS/LENGTH GATEWAY".
func checkLine(_ *wizard, s string) error {
	f := strings.Fields(s)
	if len(f) != 2 {
		return usage("setup-want-line")
	}
	p, err := host(f[0])
	if err != nil {
		return err
	}
	g, err := netip.ParseAddr(f[1])
	if err != nil || !p.Contains(g) || g == p.Addr() {
		return usage("setup-want-gateway", f[1], p.Masked().String())
	}
	return nil
}

func checkOfficeAddress(w *wizard, s string) error {
	p, err := host(s)
	if err != nil {
		return err
	}
	if line, err := netip.ParsePrefix(w.word("address", 0)); err == nil && line.Overlaps(p) {
		return usage("setup-overlap", s, line.Masked().String())
	}
	return nil
}

// checkPeer: "NAME ADDRESS NETWORK...".
func checkPeer(w *wizard, s string) error {
	f := strings.Fields(s)
	if len(f) < 2 {
		return usage("setup-want-peer")
	}
	if !siteForm.MatchString(f[0]) || f[0] == w.word("site", 0) {
		return usage("setup-want-site", f[0])
	}
	a, err := netip.ParseAddr(f[1])
	line, _ := netip.ParsePrefix(w.word("address", 0))
	if err != nil || a.Is4() != line.Addr().Is4() || a == line.Addr() || a.IsMulticast() || a.IsUnspecified() {
		return usage("setup-want-peer-address", f[1])
	}
	for i, n := range f[2:] {
		p, err := netip.ParsePrefix(n)
		if err != nil || p.Masked() != p {
			return usage("setup-want-network", n)
		}
		for _, own := range append([]string{w.word("address", 0), w.answer["office-address"]}, f[2:2+i]...) {
			if o, err := netip.ParsePrefix(own); err == nil && o.Overlaps(p) {
				return usage("setup-overlap", n, o.Masked().String())
			}
		}
	}
	return nil
}

// checkTime: addresses, or "-" for no time daemon.
func checkTime(_ *wizard, s string) error {
	if s == "-" {
		return nil
	}
	for i, f := range strings.Fields(s) {
		if _, err := netip.ParseAddr(f); err != nil {
			return usage("setup-want-time", f)
		}
		if slices.Contains(strings.Fields(s)[:i], f) {
			return usage("setup-time-twice", f)
		}
	}
	return nil
}

// checkPort: of SSH; "-" for none.
func checkPort(_ *wizard, s string) error {
	if n, err := strconv.Atoi(s); s != "-" && (err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != s) {
		return usage("setup-want-ssh", s)
	}
	return nil
}
