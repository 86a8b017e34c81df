package config

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"komainu/ntp/holdover"
	"komainu/ntp/packet"
	"komainu/ntp/timer"
)

// Ports of IANA: NTP, and NTS key exchange (RFC 8915 section 7.6).
const (
	NTPPort = 123
	NTSPort = 4460
)

// NTP is [ntp]: whom the time daemon follows, whom it serves, and how far it
// trusts its own clock. A file without it has no time daemon.
type NTP struct {
	Upstreams  []Upstream
	Serve      []netip.Prefix   // networks whose clients are answered; none: nobody
	Listen     []netip.AddrPort // our addresses there, UDP; follows from Serve
	Keys       string           // "secret:NAME" of the file of symmetric keys; empty: none
	WeakKeys   bool             // MD5 and SHA-1 keys may be used towards upstreams; never towards clients
	NTS        NTS              // server side; zero: none
	Rate       Rate
	Holdover   timer.Holdover
	Orphan     uint8         // stratum without any source after holdover; 0 (default): not synchronised instead
	MinSources int           // that must agree; default 2 with three upstreams or more, else 1
	StepOver   time.Duration // at start only; default 10 ms, what slewing at 500 ppm removes within a minute
	MaxSlew    float64       // 1e-6; default 500, as much as the kernel's own frequency correction
	Panic      time.Duration // of the running clock; default 10 s: who is that wrong was set by hand, or lied to
	LeapFile   string        // leap-seconds.list, absolute or relative to the state folder; empty: none
	Oscillator holdover.Crystal

	port  uint16
	named []servedOn
	src   *table
}

// Upstream is a server, or a pool of them, that the clock follows.
type Upstream struct {
	Host    string // name or address
	Port    uint16 // UDP; with NTS the TCP port of the key exchange
	Pool    int    // how many of its addresses to use at once, 1 to 16; 0: one server
	Key     uint32 // ID in the file of keys; 0: none
	NTS     bool
	CA      string // "secret:NAME" or a path, of NTS; empty: the system's authorities
	Prefer  bool   // followed alone while it is among the true ones
	MinPoll int8   // log2 of seconds, 4 (16 s, default) to 17
	MaxPoll int8   // likewise; default 10 (17 min)

	v *value
}

// NTS is nts = {...}: the key exchange for clients.
type NTS struct {
	Certificate, Key string           // "secret:NAME" or a path, PEM; read again when they change
	Listen           []netip.AddrPort // TCP, on the addresses of NTP.Listen
}

// Rate is rate = {...}: how often one client may ask.
type Rate struct {
	Interval time.Duration // between requests in the long run; 0: no limit; default 250 ms, room for an office behind one address
	Burst    int           // requests at once; default 32
}

// servedOn is one item of serve, not resolved yet: an interface or a network.
type servedOn struct {
	text   string
	name   string
	prefix netip.Prefix
	at     int
}

func (r *reader) ntp(root *table) *NTP {
	t := r.child(root, "ntp", false)
	if t == nil {
		return nil
	}
	defer r.done(t)
	n := &NTP{src: t, port: uint16(r.number(t, "port", NTPPort, 1, 65535))}
	r.upstreams(t, n)
	r.strs(t, "serve", false, func(v *value, s string) {
		if nameForm.MatchString(s) {
			n.named = append(n.named, servedOn{text: s, name: s, at: v.at})
			return
		}
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil || p.Addr().Is4In6():
			r.bad(v.at, "config-want-served", "serve", s)
		case p != p.Masked():
			r.bad(v.at, "config-host-bits", "serve", s, p.Masked().String())
		default:
			n.named = append(n.named, servedOn{text: s, prefix: p, at: v.at})
		}
	})
	n.Keys, n.WeakKeys = r.secret(t, "keys", false), r.yes(t, "weak-keys", false)
	r.needs(t, "weak-keys", "keys")
	n.NTS = r.nts(t)
	r.needs(t, "nts", "serve")
	n.Rate = r.rate(t)
	n.Holdover = r.holdover(t)
	if n.Orphan = uint8(r.number(t, "orphan", 0, 0, 15)); n.Orphan != 0 && n.Orphan <= n.Holdover.Stratum {
		r.bad(t.place("orphan"), "config-ntp-orphan", strconv.Itoa(int(n.Orphan)), strconv.Itoa(int(n.Holdover.Stratum)))
	}
	if t.vals["upstream"] == nil && n.Orphan == 0 {
		r.missing(t, "upstream")
	}
	n.MinSources = r.minSources(t, n.Upstreams)
	n.StepOver = r.duration(t, "step-over", 10*time.Millisecond, time.Millisecond, 1000*time.Second)
	n.MaxSlew = r.decimal(t, "max-slew", 500, 1, 100_000)
	n.Panic = r.duration(t, "panic", 10*time.Second, time.Second, 1000*time.Second)
	n.LeapFile = r.form(t, "leap-file", false, pathForm, "config-want-path")
	n.Oscillator = r.oscillator(t)
	return n
}

func (r *reader) nts(t *table) NTS {
	c := r.child(t, "nts", false)
	if c == nil {
		return NTS{}
	}
	defer r.done(c)
	return NTS{Certificate: r.file(c, "certificate", true), Key: r.file(c, "key", true),
		Listen: []netip.AddrPort{netip.AddrPortFrom(netip.Addr{}, uint16(r.number(c, "port", NTSPort, 1, 65535)))}}
}

func (r *reader) rate(t *table) Rate {
	c := r.part(t, "rate")
	defer r.done(c)
	return Rate{Interval: r.duration(c, "interval", 250*time.Millisecond, 0, time.Minute), Burst: int(r.number(c, "burst", 32, 1, 1000))}
}

// holdover: the stratum stands below what an upstream usually has, so that a
// client with a true source prefers that one (design §7). 50 ms is what a log
// of several hosts can bear and still be put in order.
func (r *reader) holdover(t *table) timer.Holdover {
	c := r.part(t, "holdover")
	defer r.done(c)
	return timer.Holdover{Stratum: uint8(r.number(c, "stratum", 10, 5, 14)), Max: r.duration(c, "max", 72*time.Hour, time.Minute, 90*24*time.Hour),
		Bound: r.duration(c, "bound", 50*time.Millisecond, time.Millisecond, 10*time.Second)}
}

// oscillator: the defaults are those of an ordinary crystal in an office:
// 0.02 ppm a day, 1 ppm between a warm day and a cold night.
func (r *reader) oscillator(t *table) holdover.Crystal {
	c := r.part(t, "oscillator")
	defer r.done(c)
	return holdover.Crystal{Ageing: r.decimal(c, "ageing", 0.02, 0.0001, 10), Temperature: r.decimal(c, "temperature", 1, 0.001, 100)}
}

// minSources: with three upstreams two must agree, since then one that lies
// can be told from the others; with fewer nobody could.
func (r *reader) minSources(t *table, all []Upstream) int {
	most := 0
	for _, u := range all {
		most += max(u.Pool, 1)
	}
	def := 1
	if most >= 3 {
		def = 2
	}
	n := int(r.number(t, "min-sources", int64(def), 1, 16))
	if n > most && most > 0 {
		r.bad(t.place("min-sources"), "config-ntp-min-sources", strconv.Itoa(n), strconv.Itoa(most))
	}
	return n
}

// upstreams are one or several, each a text or a table.
func (r *reader) upstreams(t *table, n *NTP) {
	v := r.get(t, "upstream")
	if v == nil {
		return
	}
	items := []*value{v}
	if v.kind == unstable.Array {
		if items = v.items; len(items) == 0 {
			r.bad(v.at, "config-want-some", "upstream")
		}
	}
	prefer := false
	for _, i := range items {
		u := Upstream{Port: NTPPort, MinPoll: 4, MaxPoll: 10, v: i}
		switch {
		case i.noted:
		case i.table != nil:
			i.table.name = "upstream"
			u = r.upstream(i)
			r.done(i.table)
		case i.kind == unstable.String:
			u.Host, u.Port = r.hostPort(i, i.text, NTPPort)
		default:
			r.bad(i.at, "config-want-upstream", "upstream", i.text)
		}
		if u.Prefer && prefer {
			r.bad(i.table.vals["prefer"].at, "config-ntp-prefer-twice")
		}
		if prefer = prefer || u.Prefer; u.Host == "" {
			continue
		}
		if k := slices.IndexFunc(n.Upstreams, func(x Upstream) bool { return strings.EqualFold(x.Host, u.Host) && x.Port == u.Port }); k >= 0 {
			r.bad(i.at, "config-ntp-upstream-twice", u.Host, r.row(n.Upstreams[k].v.at))
		}
		if u.Key != 0 && t.vals["keys"] == nil {
			r.bad(i.at, "config-needs-too", "key", "keys")
		}
		n.Upstreams = append(n.Upstreams, u)
	}
}

func (r *reader) upstream(v *value) Upstream {
	t := v.table
	u := Upstream{NTS: r.yes(t, "nts", false), CA: r.file(t, "ca", false), Prefer: r.yes(t, "prefer", false),
		Pool: int(r.number(t, "pool", 0, 1, 16)), Key: uint32(r.number(t, "key", 0, 1, 65535)),
		MinPoll: int8(r.number(t, "min-poll", 4, 4, 17)), MaxPoll: int8(r.number(t, "max-poll", 10, 4, 17)), v: v}
	port := uint16(NTPPort)
	if u.NTS {
		port = NTSPort
	}
	if s := r.str(t, "address", true); s != "" {
		u.Host, u.Port = r.hostPort(t.vals["address"], s, port)
	}
	switch {
	case u.NTS && u.Key != 0:
		r.bad(t.place("key"), "config-ntp-auth-twice")
	case u.CA != "" && !u.NTS:
		r.bad(t.place("ca"), "config-needs-too", "ca", "nts = true")
	}
	if u.MinPoll > u.MaxPoll {
		r.bad(t.place("min-poll"), "config-ntp-poll", strconv.Itoa(int(u.MinPoll)), strconv.Itoa(int(u.MaxPoll)))
	}
	if _, err := netip.ParseAddr(u.Host); err == nil && u.Pool > 1 {
		r.bad(t.place("pool"), "config-ntp-pool", u.Host)
	}
	return u
}

// hostForm is a name of RFC 1123 whose last label isn't a number, so that a
// mistyped address is none.
var hostForm = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?$`)

// hostPort is "host", "host:port", an address, or "[address]:port"; host is
// empty if it is none of them.
func (r *reader) hostPort(v *value, s string, port uint16) (string, uint16) {
	host := s
	if a, err := netip.ParseAddr(s); err == nil {
		host = a.String()
	} else if a, err := netip.ParseAddrPort(s); err == nil {
		host, port = a.Addr().String(), a.Port()
	} else if h, p, ok := strings.Cut(s, ":"); ok && hostForm.MatchString(h) {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			n = 0
		}
		host, port = h, uint16(n)
	}
	a, err := netip.ParseAddr(host)
	if port == 0 || len(host) > 253 || err == nil && !usable(a) || err != nil && !hostForm.MatchString(host) {
		r.bad(v.at, "config-want-upstream", "upstream", s)
		return "", 0
	}
	return host, port
}

// time checks what [ntp] says of other tables, and finds the addresses at which
// the daemon listens.
func (r *reader) time(f *File) {
	n := f.NTP
	if n == nil {
		return
	}
	for _, u := range n.Upstreams {
		if a, err := netip.ParseAddr(u.Host); err == nil && f.own(a) {
			r.bad(u.v.at, "config-ntp-upstream-own", u.Host)
		}
	}
	listen := func(p netip.Prefix) {
		if at := netip.AddrPortFrom(p.Addr(), n.port); !slices.Contains(n.Listen, at) {
			n.Listen = append(n.Listen, at)
		}
	}
	for i, s := range n.named {
		if slices.ContainsFunc(n.named[:i], func(x servedOn) bool { return x.text == s.text }) {
			r.bad(s.at, "config-ntp-serve-twice", s.text)
			continue
		}
		if s.name != "" {
			if face := f.face(s.name); face == nil {
				r.refer(n.src, "serve", "interface", s.name, f.names("interface"))
			} else {
				for _, p := range face.Addresses {
					n.Serve = append(n.Serve, p.Masked())
					listen(p)
				}
			}
			continue
		}
		n.Serve = append(n.Serve, s.prefix)
		for _, x := range f.Interfaces {
			for _, p := range x.Addresses {
				if p.Overlaps(s.prefix) && s.prefix.Bits() >= p.Bits() {
					listen(p)
				}
			}
		}
	}
	if len(n.Serve) > 0 && len(n.Listen) == 0 {
		r.bad(n.src.place("serve"), "config-ntp-serve-where")
	}
	if n.NTS.Certificate != "" {
		port := n.NTS.Listen[0].Port()
		n.NTS.Listen = nil
		for _, l := range n.Listen {
			n.NTS.Listen = append(n.NTS.Listen, netip.AddrPortFrom(l.Addr(), port))
		}
	}
	for _, p := range f.Paths {
		if slices.Contains(n.Listen, netip.AddrPortFrom(p.Local, p.Port)) {
			r.bad(n.src.place("port"), "config-port-taken", netip.AddrPortFrom(p.Local, p.Port).String(), "[[path]] "+p.Name)
		}
	}
}

// Timer is what the time daemon's core is told; NoClock, Precision and Seed
// are the program's to fill in. The file must have [ntp].
func (f *File) Timer() timer.Spec {
	n := f.NTP
	s := timer.Spec{MinSources: n.MinSources, StepOver: n.StepOver, MaxSlew: n.MaxSlew, Panic: n.Panic, Holdover: n.Holdover, Orphan: n.Orphan, Crystal: n.Oscillator}
	for _, i := range f.Interfaces {
		for _, p := range i.Addresses {
			s.Own = append(s.Own, packet.RefIDOf(p.Addr()))
		}
	}
	if len(s.Own) > 0 {
		s.ID = s.Own[0]
	}
	for _, u := range n.Upstreams {
		port := u.Port
		if u.NTS {
			port = NTPPort // unless the key exchange names another
		}
		s.Upstreams = append(s.Upstreams, timer.Upstream{Name: u.Host, Port: port, Pool: u.Pool, Auth: u.NTS || u.Key != 0, Prefer: u.Prefer, MinPoll: u.MinPoll, MaxPoll: u.MaxPoll})
	}
	return s
}
