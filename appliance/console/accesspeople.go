package console

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"komainu/appliance/accounts"
	"komainu/appliance/control"
)

func (f AccessFiles) people() []Command {
	return []Command{
		{
			Path: []string{"show", "audit"}, Role: control.Operator, Help: "usage-show-audit",
			Args: []Arg{{Name: "N", Optional: true}}, Run: f.showAudit,
		},
		{Path: []string{"show", "users"}, Role: control.Viewer, Help: "usage-show-users", Run: f.showUsers},
		{
			Path: []string{"user", "password"}, Role: control.Viewer, Help: "usage-user-password",
			Args: []Arg{{Name: "NAME", Optional: true}}, Run: f.password,
		},
	}
}

const (
	auditTime = "2006-01-02 15:04:05"
	auditN    = 20
	auditMost = 10000
)

func (f AccessFiles) showAudit(_ context.Context, in *Invocation) error {
	n := auditN
	if in.Args[0] != "" {
		var err error
		if n, err = strconv.Atoi(in.Args[0]); err != nil || n < 1 || n > auditMost {
			return usage("usage-value", in.Args[0], fmt.Sprint("1-", auditMost))
		}
	}
	all, err := accounts.Log{State: f.State}.Last(n)
	for _, e := range all {
		if in.JSON {
			if err := json.NewEncoder(in.Out).Encode(e); err != nil {
				return err
			}
			continue
		}
		_, werr := fmt.Fprintln(in.Out, printable(strings.TrimSpace(strings.Join(
			[]string{e.Time.Local().Format(auditTime), e.User, e.Terminal, e.Result, cmp.Or(e.Words, e.Operation)}, "  "))))
		if werr != nil {
			return werr
		}
	}
	if len(all) == 0 && err == nil {
		return in.tell("audit-none")
	}
	return err
}

// printable is what a terminal shows as it is: words of others must not move
// the reader's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// user is what `show users --json` tells of an account.
type user struct {
	Name       string `json:"name"`
	Role       string `json:"role"`
	Password   bool   `json:"password"`
	Keys       int    `json:"keys"`
	Configured bool   `json:"configured"`
}

func (f AccessFiles) showUsers(_ context.Context, in *Invocation) error {
	inside, err := accounts.Inside(f.Run)
	people, perr := f.book().Read()
	var may []user
	for _, a := range people.All() {
		may = append(may, user{a.Name, a.Role.String(), a.Password != nil, len(a.Keys), a.Configured})
	}
	if in.JSON {
		return errors.Join(json.NewEncoder(in.Out).Encode(struct {
			Inside []accounts.Present `json:"inside"`
			May    []user             `json:"may"`
		}{inside, may}), err, perr)
	}
	p := page{lang: in.Lang}
	p.add(p.say("users-inside"), "")
	for _, i := range inside {
		p.add("  "+i.User, p.list(p.say("role-"+i.Role), i.Terminal, p.say("users-since", i.Since.Local().Format(auditTime))))
	}
	if len(inside) == 0 {
		p.add("  -", "")
	}
	p.add(p.say("users-may"), "")
	for _, u := range may {
		with := []string{p.say("role-" + u.Role)}
		if u.Password {
			with = append(with, p.say("users-password"))
		}
		if u.Keys > 0 {
			with = append(with, p.say("users-keys", fmt.Sprint(u.Keys)))
		}
		if !u.Password && u.Keys == 0 {
			with = append(with, p.say("users-neither"))
		}
		p.add("  "+u.Name, p.list(with...))
	}
	if len(may) == 0 {
		p.add("  -", "")
	}
	_, werr := fmt.Fprint(in.Out, p.text())
	return errors.Join(werr, err, perr)
}

// password sets the own password, or an administrator another's.
func (f AccessFiles) password(ctx context.Context, in *Invocation) error {
	name := cmp.Or(in.Args[0], in.User)
	if name != in.User && in.Role < control.Admin {
		return &control.Error{Code: "access-refused", Args: []string{in.User, control.Admin.String()}, Status: 403}
	}
	book := f.book()
	people, err := book.Read()
	if err != nil {
		return err
	}
	a := people.Find(name)
	if a == nil {
		return &control.Error{Code: "no-account", Args: []string{name}}
	}
	word, err := in.twice(ctx, "new password of "+name)
	if err != nil {
		return err
	}
	if len(word) < accounts.PasswordLeast || len(word) > accounts.PasswordMost {
		return &control.Error{Code: "serial-password-length", Args: []string{fmt.Sprint(accounts.PasswordLeast), fmt.Sprint(accounts.PasswordMost)}}
	}
	err = book.SetPassword(*a, accounts.Hash(word))
	if errors.Is(err, accounts.ErrNoPassword) {
		return &control.Error{Code: "no-password-place", Args: []string{name}}
	}
	if err != nil {
		return err
	}
	return in.tell("serial-password-set", name)
}
