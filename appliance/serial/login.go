package serial

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"komainu/appliance/accounts"
	"komainu/appliance/console"
	"komainu/appliance/control"
)

// resetName is what is typed instead of a name, in rescue, by who lost the
// administrator's password.
const resetName = "reset-admin"

// login asks once for name and password. It gives nil when they are wrong, and
// again when there was no name: somebody pressed Enter to see the banner.
func (c *seat) login(ctx context.Context, s *console.Screen, rescue bool) (who *accounts.Account, again bool, err error) {
	all, err := c.keeper.People()
	first := err == nil && all.Nobody()
	var hints []error
	if err != nil {
		hints = append(hints, c.tell(s, "serial-users-damaged", c.keeper.Book.UsersFile(), err.Error()))
	}
	if first {
		hints = append(hints, c.tell(s, "serial-no-account", accounts.Admin))
	} else if rescue {
		hints = append(hints, c.tell(s, "serial-reset", resetName))
	}
	if err := errors.Join(hints...); err != nil {
		return nil, false, err
	}
	name, err := s.Line(ctx, "login: ", nil)
	if first { // another terminal may have made the administrator while the prompt stood here
		if now, rerr := c.keeper.People(); rerr != nil || !now.Nobody() {
			all, first = now, false
		}
	}
	switch {
	case err != nil || name == "":
		return nil, true, err
	case first && name == accounts.Admin:
		who, err = c.newPassword(ctx, s, "ok")
	case first: // the hint comes again
	case rescue && name == resetName:
		who, err = c.newPassword(ctx, s, "reset")
	default:
		var password string
		if password, err = s.Password(ctx, "password: "); err == nil {
			who, err = c.check(ctx, s, all, name, password)
		}
	}
	return who, false, err
}

// check answers after the delay that wrong passwords have earned, so that
// guessing costs time also when the guess is right.
func (c *seat) check(ctx context.Context, s *console.Screen, all *accounts.People, name, password string) (*accounts.Account, error) {
	a := all.FindHere(name)
	key := name
	if a == nil {
		key = "" // one for all that don't exist
	}
	if d := c.guard.Attempt(c.now(), key, a != nil, ""); d > 0 {
		if err := c.tell(s, "serial-wait", fmt.Sprint(int(d.Seconds()+0.999))); err != nil {
			return nil, err
		}
		if !c.wait(ctx, d) {
			return nil, ctx.Err()
		}
	}
	if !a.Right(password) {
		c.audit(s, accounts.Entry{User: accounts.Plain(name), Operation: "login", Result: "wrong"})
		return nil, c.tell(s, "serial-wrong")
	}
	c.guard.Right(key, "")
	c.audit(s, accounts.Entry{User: a.Name, Operation: "login", Result: "ok"})
	return a, nil
}

// newPassword asks twice and saves; without a disk the account lives as long as
// this process.
func (c *seat) newPassword(ctx context.Context, s *console.Screen, result string) (*accounts.Account, error) {
	one, err := s.Password(ctx, "new password: ")
	if err != nil || one == "" {
		return nil, err
	}
	if len(one) < accounts.PasswordLeast || len(one) > accounts.PasswordMost {
		return nil, c.tell(s, "serial-password-length", fmt.Sprint(accounts.PasswordLeast), fmt.Sprint(accounts.PasswordMost))
	}
	two, err := s.Password(ctx, "again: ")
	if err != nil {
		return nil, err
	}
	if one != two {
		return nil, c.tell(s, "serial-password-differs")
	}
	hash := accounts.Hash(one)
	if err := c.keeper.SetAdmin(hash); err != nil {
		if err := c.tell(s, "serial-memory-only", err.Error()); err != nil {
			return nil, err
		}
	}
	c.audit(s, accounts.Entry{User: accounts.Admin, Operation: "password", Result: result})
	return &accounts.Account{Name: accounts.Admin, Role: control.Admin, Password: &hash}, c.tell(s, "serial-password-set", accounts.Admin)
}

func (c *seat) tell(s *console.Screen, code string, args ...string) error {
	_, err := fmt.Fprintln(s, c.say(code, args...))
	return err
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
