package config

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// User is one [[user]]: somebody who may log in on the console and by SSH.
// Files of a database host have none: there the host's own accounts count.
type User struct {
	Name     string   // letters, digits, - and _
	Role     string   // "viewer", "field", "operator" or "admin"
	Password string   // "secret:NAME", which holds an argon2id hash; empty: only keys
	Keys     []string // public keys as in authorized_keys, without options

	src *table
}

func (r *reader) user(t *table) User {
	u := User{Name: r.form(t, "name", true, roleForm, "config-want-user"), Password: r.secret(t, "password", false), src: t}
	if r.missing(t, "role"); t.vals["role"] == nil {
		r.get(t, "role")
	} else {
		u.Role = r.word(t, "role", []string{"viewer", "field", "operator", "admin"})
	}
	r.strs(t, "keys", false, func(v *value, s string) {
		key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(s))
		if err != nil || len(options) > 0 || len(rest) > 0 || strings.Contains(key.Type(), "-cert-") || key.Type() == "ssh-dss" {
			// What stands there may be a private key, so the report doesn't repeat it.
			r.bad(v.at, "config-want-key", "keys")
			r.hide()
			return
		}
		u.Keys = append(u.Keys, strings.TrimSpace(s))
	})
	if !r.cut && t.vals["password"] == nil && (t.vals["keys"] == nil || len(t.vals["keys"].items) == 0 && t.vals["keys"].text == "") {
		r.bad(t.at, "config-user-without", u.Name)
	}
	return u
}

// Console is [console]: how people reach the command line.
type Console struct {
	SSH     []netip.AddrPort // where SSH listens; none: nowhere
	Idle    time.Duration    // without a key pressed until a session ends; default 15 min
	Charset string           // what terminals are taken to show: "utf-8" (default) or "shift_jis"

	named []listenOn // not resolved yet
	at    []int      // places of SSH
	src   *table
}

func (r *reader) console(root *table) Console {
	t := r.child(root, "console", false)
	if t == nil {
		t = newTable("[console]", 0)
	}
	defer r.done(t)
	c := Console{Idle: r.duration(t, "idle", 15*time.Minute, time.Minute, 24*time.Hour), Charset: r.word(t, "charset", []string{"utf-8", "shift_jis"})}
	if root.vals["console"] != nil {
		c.src = t
	}
	r.strs(t, "ssh", false, func(v *value, s string) {
		if n, ok := namedListener(v, s); ok {
			c.named = append(c.named, n)
		} else if e, ok := r.endpoint(v, "ssh", s); ok {
			c.SSH, c.at = append(c.SSH, e), append(c.at, v.at)
		}
	})
	return c
}

// namedListener reads "interface:port".
func namedListener(v *value, s string) (listenOn, bool) {
	name, port, ok := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	return listenOn{name, uint16(n), v.at}, ok && nameForm.MatchString(name) && err == nil && n > 0
}
