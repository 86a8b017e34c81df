package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"komainu/tools/lab"
)

// keepalived runs VRRP over the line between both boxes, one advertisement
// every 0.1 s, and steers from its notify script: its sharpest usual setting.
// The priorities are close to 255, so that the skew adds about a millisecond.
// Its own address is one that nobody uses: the script does the work.
const keepalivedConf = `global_defs {
  router_id %[1]s
  vrrp_version 3
  script_user root
  enable_script_security
}
vrrp_instance town {
  state BACKUP
  interface main
  virtual_router_id 50
  priority %[2]d
  advert_int 0.1
  unicast_src_ip %[3]s
  unicast_peer {
    %[4]s
  }
  virtual_ipaddress {
    192.0.2.50/32 dev lo
  }
  %[5]s
}
`

func (p *plain) keepalived(ctx context.Context) error {
	script := filepath.Join(p.Hall.Dir, "notify")
	text := fmt.Sprintf("#!/bin/sh\ncase $3 in\nMASTER) %s ;;\nBACKUP|FAULT) %s ;;\nesac\n", swapCommand(p.rules("local.nft")), swapCommand(p.rules("dc.nft")))
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		return err
	}
	for _, x := range []struct {
		h        *lab.Host
		priority int
		own      string
		other    string
		notify   string
	}{
		{p.Edge, 254, lab.MainEdge4, lab.MainHall4, ""},
		{p.Hall, 253, lab.MainHall4, lab.MainEdge4, "notify " + script},
	} {
		conf := filepath.Join(x.h.Dir, "keepalived.conf")
		if err := os.WriteFile(conf, fmt.Appendf(nil, keepalivedConf, x.h.Name, x.priority, x.own, x.other, x.notify), 0o600); err != nil {
			return err
		}
		run := func(name string) string { return filepath.Join(x.h.RunDir(), name) }
		if err := x.h.Start(ctx, lab.Daemon{Name: "keepalived", Argv: []string{"keepalived", "--dont-fork", "--log-console", "--use-file", conf,
			"--pid", run("keepalived.pid"), "--vrrp_pid", run("vrrp.pid"), "--vrrp"}}); err != nil {
			return err
		}
	}
	return until(ctx, moveBound, "keepalived to settle", func() error {
		log, err := os.ReadFile(filepath.Join(p.Edge.LogDir(), "keepalived.log"))
		if err == nil && !strings.Contains(string(log), "Entering MASTER STATE") {
			err = fmt.Errorf("the DC edge is no master: %s", log)
		}
		return err
	})
}

// outage is one cut as keepalived's clerks see it.
func (p *plain) outage(ctx context.Context) (first, patient time.Duration, err error) {
	stop := p.work(crew(p.Clients))
	defer stop()
	if err := p.seen(ctx, dcRead); err != nil {
		return 0, 0, fmt.Errorf("reads at the DC: %w", err)
	}
	if err := settle(ctx); err != nil {
		return 0, 0, err
	}
	cut := time.Now()
	p.Main.Cut(lab.HallToDC)
	p.Main.Cut(lab.DCToHall)
	defer p.Main.Heal(lab.HallToDC)
	defer p.Main.Heal(lab.DCToHall)
	f, err := feel(ctx, p.rec, p.Clients[2])
	if err != nil {
		return 0, 0, fmt.Errorf("local reads: %w", err)
	}
	return f.first.Sub(cut), f.patient.Sub(cut), nil
}
