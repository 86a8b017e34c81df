package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"komainu/appliance/control"
	"komainu/drivers/units"
	"komainu/tools/town"
)

// strongswan is charon with a data plane of its own, since not every kernel here
// has one: what is timed is its life.
const strongswan = `charon {
	load = random nonce openssl kdf kernel-libipsec kernel-netlink socket-default vici
	filelog { stderr { default = 0 } }
	plugins { vici { socket = unix://%s } }
}
`

// steady is a little more than how long a unit must have run to be started
// again at once.
const steady = 11 * time.Second

// kills measures how long a daemon that is killed is missed.
func (b *bench) kills(ctx context.Context) (err error) {
	agent := b.figure(Figure{Name: "kill_agent", What: "kill -9 of the agent: until it answers again", Unit: "ms", Goal: "max <= 1000", holds: maxAtMost(1000)})
	charon := b.figure(Figure{Name: "kill_charon", What: "kill -9 of charon: until vici answers again", Unit: "ms", Goal: "max <= 2000", holds: maxAtMost(2000)})
	postgres := b.figure(Figure{Name: "kill_postgres", What: "kill -9 of PostgreSQL: until a client's query is answered again", Unit: "ms", Goal: "max <= 3000", holds: maxAtMost(3000)})
	r, err := b.town(ctx, "kills", town.Settings{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	client := units.Client{Socket: filepath.Join(r.DB.RunDir(), "pid1.sock")}
	vici := filepath.Join(r.DB.RunDir(), "charon.vici")
	conf := filepath.Join(r.DB.Dir, "strongswan.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, strongswan, vici), 0o644); err != nil {
		return err
	}
	if _, err := client.Start(ctx, units.Unit{Name: "charon", Argv: []string{"/usr/lib/ipsec/charon"}, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "STRONGSWAN_CONF=" + conf}, Restart: true}); err != nil {
		return err
	}
	cfg, err := pgx.ParseConfig(town.DirectDSN)
	if err != nil {
		return err
	}
	cfg.DialFunc, cfg.ConnectTimeout = r.App.Dial, time.Second
	dial := func() error {
		c, err := net.Dial("unix", vici)
		if err != nil {
			return err
		}
		return c.Close()
	}
	victims := []struct {
		prefix string
		figure *Figure
		back   func() error
	}{
		{"agent", agent, func() error {
			var st control.Status
			return r.Agent(r.DB).Get(ctx, control.StatusPath, &st)
		}},
		{"charon", charon, dial},
		{"postgres", postgres, func() error {
			c, err := pgx.ConnectConfig(ctx, cfg)
			if err != nil {
				return err
			}
			_, err = c.Exec(ctx, "select 1")
			return errors.Join(err, c.Close(ctx))
		}},
	}
	return b.repeat(ctx, func(i int) error {
		for _, v := range victims {
			if err := until(ctx, readyBound, v.prefix, v.back); err != nil {
				return err
			}
			st, err := unit(ctx, client, v.prefix)
			if err != nil {
				return err
			}
			began := time.Now()
			if err := client.Signal(ctx, st.Name, syscall.SIGKILL); err != nil {
				return err
			}
			if err := until(ctx, readyBound, v.prefix+" to be back", func() error {
				now, err := client.Status(ctx, st.Name)
				if err == nil && (!now.Running || now.PID == st.PID) {
					err = errors.New("it doesn't run yet")
				}
				if err != nil {
					return err
				}
				return v.back()
			}); err != nil {
				return err
			}
			v.figure.Ours.add(ms(time.Since(began)))
		}
		// Who ends again soon waits longer: each round is a first time.
		if err := rest(ctx, steady); err != nil {
			return err
		}
		b.progress("%d: agent %.0f ms, charon %.0f ms, PostgreSQL %.0f ms", i+1, last(agent), last(charon), last(postgres))
		return nil
	})
}

// unit is the status of the one whose name begins so.
func unit(ctx context.Context, c units.Client, prefix string) (units.Status, error) {
	var all []units.Status
	if err := (control.Client{Socket: c.Socket}).Get(ctx, "/v1/units", &all); err != nil {
		return units.Status{}, err
	}
	for _, st := range all {
		if st.Running && strings.HasPrefix(st.Name, prefix) {
			return st, nil
		}
	}
	return units.Status{}, fmt.Errorf("no unit %s among %v", prefix, all)
}
