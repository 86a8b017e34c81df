package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"komainu/appliance/pki"
	"komainu/appliance/say"
)

// pkiMain is the authority's command: `komainu pki VERB`. It needs no box.
func pkiMain(_ context.Context, args []string, out io.Writer) error {
	err := pkiCommand{out: out, lang: language(), now: time.Now()}.run(args)
	var r *pki.Refusal
	if errors.As(err, &r) {
		return errors.New(say.Text(language(), r.Code, r.Args...))
	}
	return err
}

// pkiCommand is one use of it.
type pkiCommand struct {
	out  io.Writer
	lang string
	now  time.Time
}

func (c pkiCommand) run(args []string) error {
	verbs := map[string]func(*flag.FlagSet, []string) error{"create": c.create, "issue": c.issue, "revoke": c.revoke, "crl": c.crl, "list": c.list}
	if len(args) == 0 || verbs[args[0]] == nil {
		return &pki.Refusal{Code: "pki-usage"}
	}
	f := flag.NewFlagSet("pki "+args[0], flag.ContinueOnError)
	f.SetOutput(c.out)
	return verbs[args[0]](f, args[1:])
}

func (c pkiCommand) say(code string, args ...string) {
	fmt.Fprintln(c.out, say.Text(c.lang, code, args...))
}

// pkiWords reads flags that may stand before and behind the words, of which want
// are wanted.
func pkiWords(f *flag.FlagSet, args []string, want int) ([]string, error) {
	var found []string
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		if f.NArg() == 0 {
			break
		}
		found, args = append(found, f.Arg(0)), f.Args()[1:]
	}
	if len(found) != want {
		return nil, &pki.Refusal{Code: "pki-usage"}
	}
	return found, nil
}

func (c pkiCommand) dir(f *flag.FlagSet) *string {
	return f.String("dir", "pki", "the authority's `FOLDER`")
}

func (c pkiCommand) create(f *flag.FlagSet, args []string) error {
	dir, days := c.dir(f), f.Int("days", pki.CADays, "`DAYS` until its end")
	names, err := pkiWords(f, args, 1)
	if err != nil {
		return err
	}
	if err := pki.Create(*dir, names[0], *days, c.now); err != nil {
		return err
	}
	c.say("pki-created", names[0], *dir, pki.CertFile, pki.KeyFile)
	return nil
}

func (c pkiCommand) issue(f *flag.FlagSet, args []string) error {
	dir, days := c.dir(f), f.Int("days", pki.CertDays, "`DAYS` until its end")
	more := f.String("more", "", "further `NAMES` and addresses, separated by commas")
	request := f.String("csr", "", "`FILE` with the signing request of a box that keeps its key")
	names, err := pkiWords(f, args, 1)
	if err != nil {
		return err
	}
	r := pki.Request{Name: names[0], Days: *days}
	if *more != "" {
		r.More = strings.Split(*more, ",")
	}
	if *request != "" {
		if r.CSR, err = os.ReadFile(*request); err != nil {
			return err
		}
	}
	return c.with(*dir, func(a *pki.Authority) error {
		m, err := a.Issue(r, c.now)
		if err != nil {
			return err
		}
		c.say("pki-issued", m.Name, m.Until.Format(time.DateOnly), m.Serial, m.Cert)
		if m.Key != "" {
			c.say("pki-issued-key", m.Key)
		}
		if len(m.Older) > 0 {
			c.say("pki-older", m.Name, strings.Join(m.Older, ", "))
		}
		return nil
	})
}

func (c pkiCommand) revoke(f *flag.FlagSet, args []string) error {
	dir, days := c.dir(f), f.Int("days", pki.ListDays, "`DAYS` until the next list")
	all := f.Bool("all", false, "all valid ones of the name")
	names, err := pkiWords(f, args, 1)
	if err != nil {
		return err
	}
	return c.with(*dir, func(a *pki.Authority) error {
		revoked, err := a.Revoke(names[0], *all, c.now)
		if err != nil {
			return err
		}
		for _, x := range revoked {
			c.say("pki-taken-back", x.Name, x.Serial)
		}
		return c.writeList(a, *days)
	})
}

func (c pkiCommand) crl(f *flag.FlagSet, args []string) error {
	dir, days := c.dir(f), f.Int("days", pki.ListDays, "`DAYS` until the next list")
	if _, err := pkiWords(f, args, 0); err != nil {
		return err
	}
	return c.with(*dir, func(a *pki.Authority) error { return c.writeList(a, *days) })
}

// writeList makes the list of revoked ones.
func (c pkiCommand) writeList(a *pki.Authority, days int) error {
	path, err := a.WriteList(days, c.now)
	if err == nil {
		c.say("pki-list-made", path, c.now.AddDate(0, 0, days).Format(time.DateOnly))
	}
	return err
}

func (c pkiCommand) list(f *flag.FlagSet, args []string) error {
	dir, machine := c.dir(f), f.Bool("json", false, "for programs")
	if _, err := pkiWords(f, args, 0); err != nil {
		return err
	}
	return c.with(*dir, func(a *pki.Authority) error {
		if *machine {
			e := json.NewEncoder(c.out)
			e.SetIndent("", "  ")
			return e.Encode(a.List())
		}
		c.say("pki-authority", a.Name(), a.Until().Format(time.DateOnly))
		for _, x := range a.List() {
			state := "pki-valid"
			switch {
			case !x.Revoked.IsZero():
				state = "pki-state-revoked"
			case !x.Valid(c.now):
				state = "pki-expired"
			}
			fmt.Fprintf(c.out, "%-28s %s  %s  %s\n", x.Name, x.Serial, x.Until.Format(time.DateOnly), say.Text(c.lang, state))
		}
		return nil
	})
}

func (c pkiCommand) with(dir string, do func(*pki.Authority) error) error {
	a, err := pki.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(do(a), a.Close())
}
