package config

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// str is a text; "" if absent or wrong. Required texts must not be empty.
func (r *reader) str(t *table, key string, required bool) string {
	v := r.get(t, key)
	if v == nil {
		if required {
			r.missing(t, key)
		}
		return ""
	}
	return r.text(key, v)
}

func (r *reader) text(key string, v *value) string {
	if v.noted {
		return ""
	}
	if v.kind != unstable.String || v.text == "" {
		r.bad(v.at, "config-want-text", key)
		return ""
	}
	return v.text
}

// strs is one text or a list of them; those that are none are noted and left
// out. f reads each.
func (r *reader) strs(t *table, key string, required bool, f func(v *value, s string)) {
	v := r.get(t, key)
	if v == nil {
		if required {
			r.missing(t, key)
		}
		return
	}
	items := []*value{v}
	if v.kind == unstable.Array {
		if items = v.items; len(items) == 0 && required {
			r.bad(v.at, "config-want-some", key)
		}
	}
	for _, i := range items {
		if s := r.text(key, i); s != "" {
			f(i, s)
		}
	}
}

var (
	nameForm  = regexp.MustCompile(`^[a-z][a-z0-9-]{0,26}$`)
	groupForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,26}/[a-z][a-z0-9-]{0,26}$`)
	linkForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,14}$`) // IFNAMSIZ is 16 with its zero byte
	roleForm  = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}$`)
	zoneForm  = regexp.MustCompile(`^([A-Z][A-Za-z_]+(/[A-Za-z0-9_+-]+){1,2}|UTC)$`)
	// pathForm keeps out what libpq, shells and PostgreSQL's own lists would read as more than a path.
	pathForm   = regexp.MustCompile(`^[A-Za-z0-9._/-]+$`)
	secretForm = regexp.MustCompile(`^secret:[A-Za-z0-9][A-Za-z0-9._-]*$`)
)

// form is a text of a certain form; otherwise code, with key and text, is noted.
func (r *reader) form(t *table, key string, required bool, form *regexp.Regexp, code string) string {
	s := r.str(t, key, required)
	if s != "" && !form.MatchString(s) {
		r.bad(t.place(key), code, key, s)
		return ""
	}
	return s
}

func (r *reader) ident(t *table, key string) string {
	return r.form(t, key, true, nameForm, "config-want-name")
}

// secret is a reference "secret:NAME". What stands there instead may be the
// secret itself, so the report doesn't repeat it.
func (r *reader) secret(t *table, key string, required bool) string {
	s := r.str(t, key, required)
	if s == "" || secretForm.MatchString(s) {
		return s
	}
	r.bad(t.place(key), "config-want-secret", key)
	r.hide()
	return ""
}

// hide cuts the line of the last problem off where its value begins.
func (r *reader) hide() {
	p := &r.problems[len(r.problems)-1]
	p.Excerpt = string([]rune(p.Excerpt)[:min(p.Column-1, len([]rune(p.Excerpt)))]) + "..."
}

// file is "secret:NAME" or a path, relative to the state folder or absolute.
func (r *reader) file(t *table, key string, required bool) string {
	s := r.str(t, key, required)
	if s == "" || secretForm.MatchString(s) {
		return s
	}
	if strings.HasPrefix(s, "secret:") || !pathForm.MatchString(s) || slices.Contains(strings.Split(s, "/"), "..") {
		r.bad(t.place(key), "config-want-file", key, s)
		return ""
	}
	return s
}

// word is one of words (the first is the default); those of later are known
// and not in this version.
func (r *reader) word(t *table, key string, words []string, later ...string) string {
	s := r.str(t, key, false)
	switch {
	case s == "":
		return words[0]
	case slices.Contains(words, s):
		return s
	case slices.Contains(later, s):
		r.bad(t.place(key), "config-later-word", key, s, strings.Join(words, ", "))
	default:
		if n := near(s, words); n != "" {
			r.bad(t.place(key), "config-want-word-near", key, s, n)
		} else {
			r.bad(t.place(key), "config-want-word", key, s, strings.Join(words, ", "))
		}
	}
	return words[0]
}

// number is an integer within its bounds.
func (r *reader) number(t *table, key string, def, low, high int64) int64 {
	v := r.get(t, key)
	if v == nil {
		return def
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(v.text, "_", ""), 0, 64)
	switch {
	case v.kind != unstable.Integer || err != nil:
		r.bad(v.at, "config-want-number", key)
	case n < low || n > high:
		r.bad(v.at, "config-range", key, v.text, strconv.FormatInt(low, 10), strconv.FormatInt(high, 10))
	default:
		return n
	}
	return def
}

// decimal is a number within its bounds, with or without a fraction.
func (r *reader) decimal(t *table, key string, def, low, high float64) float64 {
	v := r.get(t, key)
	if v == nil {
		return def
	}
	n, err := strconv.ParseFloat(strings.ReplaceAll(v.text, "_", ""), 64)
	show := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	switch {
	case v.kind != unstable.Integer && v.kind != unstable.Float || err != nil:
		r.bad(v.at, "config-want-decimal", key)
	case !(n >= low && n <= high): // not a number is none of both
		r.bad(v.at, "config-range", key, v.text, show(low), show(high))
	default:
		return n
	}
	return def
}

// yes is true or false.
func (r *reader) yes(t *table, key string, def bool) bool {
	v := r.get(t, key)
	switch {
	case v == nil:
		return def
	case v.kind != unstable.Bool:
		r.bad(v.at, "config-want-yes", key)
		return def
	}
	return v.text == "true"
}

// duration is a time with its unit, within its bounds.
func (r *reader) duration(t *table, key string, def, low, high time.Duration) time.Duration {
	v := r.get(t, key)
	if v == nil {
		return def
	}
	d, err := time.ParseDuration(v.text)
	switch {
	case v.kind != unstable.String || err != nil:
		r.bad(v.at, "config-want-time", key)
	case d < low || d > high:
		r.bad(v.at, "config-range", key, v.text, low.String(), high.String())
	default:
		return d
	}
	return def
}

var sizeForm = regexp.MustCompile(`^([0-9]{1,9}) ?(kB|MB|GB|TB)$`)

// size is a number of bytes with its unit, in steps of 1024 as PostgreSQL counts.
func (r *reader) size(t *table, key string, def, low, high uint64) uint64 {
	v := r.get(t, key)
	if v == nil {
		return def
	}
	m := sizeForm.FindStringSubmatch(v.text)
	if v.kind != unstable.String || m == nil {
		r.bad(v.at, "config-want-size", key)
		return def
	}
	n, err := strconv.ParseUint(m[1], 10, 32)
	shift := map[string]uint{"kB": 10, "MB": 20, "GB": 30, "TB": 40}[m[2]]
	if err != nil || n > high>>shift || n<<shift < low {
		r.bad(v.at, "config-range", key, v.text, sizeText(low), sizeText(high))
		return def
	}
	return n << shift
}

func sizeText(n uint64) string {
	unit := 0
	for n >= 1024 && n%1024 == 0 && unit < 4 {
		n, unit = n/1024, unit+1
	}
	return strconv.FormatUint(n, 10) + []string{"B", "kB", "MB", "GB", "TB"}[unit]
}

// usable says whether a can be an address of a host: no zone, no IPv4 inside
// IPv6, not a group of hosts.
func usable(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsMulticast() && !a.IsUnspecified()
}

// addr is one address.
func (r *reader) addr(t *table, key string, required bool) netip.Addr {
	s := r.str(t, key, required)
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !usable(a) {
		r.bad(t.place(key), "config-want-address", key, s)
		return netip.Addr{}
	}
	return a
}

// addrs are addresses; perFamily: one IPv4 and one IPv6 at most.
func (r *reader) addrs(t *table, key string, perFamily bool) []netip.Addr {
	var out []netip.Addr
	r.strs(t, key, false, func(v *value, s string) {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil || !usable(a):
			r.bad(v.at, "config-want-address", key, s)
		case perFamily && sameFamily(out, a).IsValid():
			r.bad(v.at, "config-family-twice", key, s)
		default:
			out = append(out, a)
		}
	})
	return out
}

// endpoints are addresses with ports, one IPv4 and one IPv6 at most.
func (r *reader) endpoints(t *table, key string, required bool) []netip.AddrPort {
	var out []netip.AddrPort
	r.strs(t, key, required, func(v *value, s string) {
		if e, ok := r.endpoint(v, key, s); ok {
			if ofFamily(out, e.Addr()).IsValid() {
				r.bad(v.at, "config-family-twice", key, s)
				return
			}
			out = append(out, e)
		}
	})
	return out
}

func (r *reader) endpoint(v *value, key, s string) (netip.AddrPort, bool) {
	e, err := netip.ParseAddrPort(s)
	if err != nil || !usable(e.Addr()) || e.Port() == 0 {
		r.bad(v.at, "config-want-endpoint", key, s)
		return netip.AddrPort{}, false
	}
	return e, true
}

// networks are prefixes without host bits.
func (r *reader) networks(t *table, key string) []netip.Prefix {
	var out []netip.Prefix
	r.strs(t, key, false, func(v *value, s string) {
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil || p.Addr().Is4In6():
			r.bad(v.at, "config-want-network", key, s)
		case p != p.Masked():
			r.bad(v.at, "config-host-bits", key, s, p.Masked().String())
		default:
			out = append(out, p)
		}
	})
	return out
}

// ofFamily is the endpoint among es of the family of a; zero if none.
func ofFamily(es []netip.AddrPort, a netip.Addr) netip.AddrPort {
	for _, e := range es {
		if e.Addr().Is4() == a.Is4() {
			return e
		}
	}
	return netip.AddrPort{}
}

// sameFamily is the address among as of the family of a; zero if none.
func sameFamily(as []netip.Addr, a netip.Addr) netip.Addr {
	for _, x := range as {
		if x.Is4() == a.Is4() {
			return x
		}
	}
	return netip.Addr{}
}
