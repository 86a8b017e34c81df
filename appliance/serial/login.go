package serial

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"komainu/appliance/console"
	"komainu/appliance/control"
)

// resetName is what is typed instead of a name, in rescue, by who lost the
// administrator's password.
const resetName = "reset-admin"

// login asks once for name and password. It gives nil when they are wrong, and
// again when there was no name: somebody pressed Enter to see the banner.
func (c *seat) login(ctx context.Context, s *console.Screen, rescue bool) (who *account, again bool, err error) {
	all, err := c.users()
	first := err == nil && len(all.Users) == 0
	var hints []error
	if err != nil {
		hints = append(hints, c.tell(s, "serial-users-damaged", usersFile(c.State), err.Error()))
	}
	if first {
		hints = append(hints, c.tell(s, "serial-no-account", adminName))
	} else if rescue {
		hints = append(hints, c.tell(s, "serial-reset", resetName))
	}
	if err := errors.Join(hints...); err != nil {
		return nil, false, err
	}
	name, err := s.Line(ctx, "login: ", nil)
	if first { // another terminal may have made the administrator while the prompt stood here
		if now, rerr := c.users(); rerr != nil || len(now.Users) > 0 {
			all, first = now, false
		}
	}
	switch {
	case err != nil || name == "":
		return nil, true, err
	case first && name == adminName:
		who, err = c.newPassword(ctx, s, all, "ok")
	case first: // the hint comes again
	case rescue && name == resetName:
		if all == nil {
			all = &users{} // the damaged file is replaced
		}
		who, err = c.newPassword(ctx, s, all, "reset")
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
func (c *seat) check(ctx context.Context, s *console.Screen, all *users, name, password string) (*account, error) {
	var a *account
	if all != nil {
		a = all.find(name)
	}
	key := name
	if a == nil {
		key = "" // one for all that don't exist, so that the table stays small
	}
	if d := c.guard.wait(c.now(), key); d > 0 {
		if err := c.tell(s, "serial-wait", fmt.Sprint(int(d.Seconds()+0.999))); err != nil {
			return nil, err
		}
		if !c.wait(ctx, d) {
			return nil, ctx.Err()
		}
	}
	known := a
	if a == nil { // takes as long as for one that exists
		stranger := newAccount(adminName, control.Viewer.String(), "")
		known = &stranger
	}
	good := known.right(password[:min(len(password), passwordMost)]) && a != nil
	if !good {
		c.guard.wrong(c.now(), key)
		c.audit(s, entry{User: plain(name), What: "login", Result: "wrong"})
		return nil, c.tell(s, "serial-wrong")
	}
	c.guard.right(key)
	c.audit(s, entry{User: a.Name, What: "login", Result: "ok"})
	return a, nil
}

// plain keeps what can't be a name out of the records: it may be a password
// typed in the wrong place, or noise.
func plain(name string) string {
	if nameForm.MatchString(name) {
		return name
	}
	return "?"
}

// newPassword asks twice and saves; without a disk the account lives as long as
// this process.
func (c *seat) newPassword(ctx context.Context, s *console.Screen, all *users, result string) (*account, error) {
	one, err := s.Password(ctx, "new password: ")
	if err != nil || one == "" {
		return nil, err
	}
	if len(one) < passwordLeast || len(one) > passwordMost {
		return nil, c.tell(s, "serial-password-length", fmt.Sprint(passwordLeast), fmt.Sprint(passwordMost))
	}
	two, err := s.Password(ctx, "again: ")
	if err != nil {
		return nil, err
	}
	if one != two {
		return nil, c.tell(s, "serial-password-differs")
	}
	a := newAccount(adminName, control.Admin.String(), one)
	all = all.with(a)
	c.memory = all
	if err := c.disk.write(func() error { return writeUsers(c.State, all) }); err != nil {
		if err := c.tell(s, "serial-memory-only", err.Error()); err != nil {
			return nil, err
		}
	}
	c.audit(s, entry{User: a.Name, What: "password", Result: result})
	return &a, c.tell(s, "serial-password-set", adminName)
}

// users are the accounts that count: those of the disk, else those that were
// last read or made here, so that a disk which fails now locks nobody out.
func (c *seat) users() (*users, error) {
	all, err := onDisk(c.disk, func() (*users, error) { return readUsers(c.State) })
	if c.memory != nil && (err != nil || len(all.Users) == 0) {
		return c.memory, nil
	}
	if err == nil && len(all.Users) > 0 {
		c.memory = all
	}
	return all, err
}

func (c *seat) tell(s *console.Screen, code string, args ...string) error {
	_, err := fmt.Fprintln(s, c.say(code, args...))
	return err
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
