package update

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"komainu/appliance/control"
	"komainu/drivers/units"
)

// TestEvidence: what sysfs, the daemons and the supervisor say becomes evidence,
// and what worked becomes the baseline.
func TestEvidence(t *testing.T) {
	sys, run := t.TempDir(), t.TempDir()
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	port := func(name, pci, flags, carrier string) {
		dir := filepath.Join(sys, "class/net", name)
		must(os.MkdirAll(dir, 0o755), os.MkdirAll(filepath.Join(sys, "devices", pci), 0o755), os.Symlink(filepath.Join(sys, "devices", pci), filepath.Join(dir, "device")))
		write(t, filepath.Join(dir, "flags"), []byte(flags))
		write(t, filepath.Join(dir, "carrier"), []byte(carrier))
	}
	port("eth0", "0000:02:00.0", "0x1003\n", "1\n")
	port("eth1", "0000:03:00.0", "0x1003\n", "0\n")
	port("eth2", "0000:00:03.0/virtio1", "0x1002\n", "1\n")
	for _, l := range []string{"bond0/lower_eth0", "bond0/lower_eth1", "bond0.110/lower_bond0", "lo/x"} {
		must(os.MkdirAll(filepath.Join(sys, "class/net", l), 0o755))
	}
	if got := fmt.Sprint(readPorts(sys)); got != "map[0000:00:03.0:{false false} 0000:02:00.0:{true true} 0000:03:00.0:{true false}]" {
		t.Error(got)
	}
	if got := fmt.Sprint(below(sys, "bond0.110"), below(sys, "eth2"), below(sys, "xfrm0")); got != "[0000:02:00.0 0000:03:00.0] [0000:00:03.0] []" {
		t.Error(got)
	}
	w := World{Agent: control.Client{Socket: run + "/agent.sock"}, Time: control.Client{Socket: run + "/timed.sock"}, Sys: sys,
		Units: func() []units.Status {
			return []units.Status{{Name: charonUnit, Running: true}, {Name: agentUnit, Running: true, Starts: 3}}
		}}
	if e := w.evidence(t.Context()); e.Agent || e.AgentEnds != 2 || e.TimeDaemon || !e.Charon || !e.Console {
		t.Errorf("%+v", e)
	}
	st := control.Status{Verdict: control.Verdict{Usable: true, Place: "none"},
		Paths:     []control.Path{{Name: "main", State: "up", Interface: "bond0.110"}, {Name: "alt", State: "down", Interface: "eth2"}},
		Databases: []control.Database{{Name: "resident", Role: "standby", Ready: true, LagS: 2}, {Name: "tax", Role: "standby", LagS: 9000}}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for socket, route := range map[string]control.Route{
		"agent.sock": {Pattern: "GET " + control.StatusPath, Handle: func(context.Context, *control.Request) (any, error) { return st, nil }},
		"timed.sock": {Pattern: "GET " + control.TimePath, Handle: func(context.Context, *control.Request) (any, error) {
			return control.TimeStatus{State: "holdover"}, nil
		}},
	} {
		srv := &control.Server{Socket: filepath.Join(run, socket), Routes: []control.Route{route}}
		ln, err := control.Listen(ctx, srv.Socket, 0o600)
		must(err)
		go func() { ended <- srv.Serve(ctx, ln) }()
	}
	defer func() {
		cancel()
		must(<-ended, <-ended)
	}()
	e := w.evidence(t.Context())
	if !e.Agent || !e.TimeDaemon || e.Synced || !e.TimeSilent || !e.DataCentre || e.Outside || !e.Paths["main"].Up || e.Paths["alt"].Up {
		t.Errorf("%+v", e)
	}
	if got := fmt.Sprintf("%+v", baseline(e)); got != "{Agent:true Charon:true TimeDaemon:true Synced:false DataCentre:true Ports:[0000:02:00.0] Paths:[main] Ready:[resident] Streaming:[resident]}" {
		t.Error(got)
	}
	if h := (hops{"wan": {false, true}, "lan": {false}}); !h.answer("wan") || h.answer("lan") || !h.answer("none") || !h.answer("") || hops(nil).answer("wan") || !(hops{}).answer("") {
		t.Error("next hops")
	}
}
