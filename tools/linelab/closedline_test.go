package linelab

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/tools/lab"
)

// app6 is where the echo stands behind the edge, in IPv6.
const app6 = "[" + lab.App6 + "]:7"

// TestHostLineClosed: whatever happens to charon, to the associations and to
// the boxes, a listener at the lines hears ESP and IKE alone (AT-173), of both
// families (AT-175).
func TestHostLineClosed(t *testing.T) {
	stockOnly(t)
	w := build(t, Options{Idle: true})
	echo(t, w)
	ctx := t.Context()
	ear := Listen(w.Main, w.Alt)
	// Before, while and after the boxes start, packets want to pass.
	flows := map[string]*Flow{}
	for _, to := range []string{app, app6} {
		f, err := NewFlow(ctx, w.Clients[0], to, 20*time.Millisecond, 200)
		must(t, err)
		flows[to] = f
	}
	begin := time.Now()
	must(t, w.Start(ctx, w.Hall))
	must(t, w.Start(ctx, w.Edge))
	both := func(what string) {
		t.Helper()
		now := time.Now()
		for to, f := range flows {
			must(t, Until(ctx, 2*time.Minute, what+": a packet to "+to, func() error { return passed(f, now) }))
		}
	}
	both("started")
	result("AT-175", true, "UDP of both families through the tunnel", "IPv4 and IPv6 pass")
	must(t, w.Hall.Kill("agent", syscall.SIGKILL))
	both("agent killed")
	must(t, w.Hall.Kill("charon", syscall.SIGKILL))
	both("charon killed")
	must(t, w.Hall.FlushXFRM())
	must(t, w.Edge.FlushXFRM())
	both("associations deleted by hand")
	must(t, w.Edge.PowerOff(ctx))
	must(t, w.Edge.PowerOn(ctx))
	must(t, w.Start(ctx, w.Edge))
	both("edge powered off and on")
	must(t, w.Hall.PowerOff(ctx))
	must(t, w.Hall.PowerOn(ctx))
	must(t, w.Start(ctx, w.Hall))
	both("hall powered off and on")
	sent := 0
	for _, f := range flows {
		sent += f.Stop(begin, time.Second).Sent
	}
	secret, ike, local := ear.Counts()
	heard := ear.Clear()
	result("AT-173", len(heard) == 0, fmt.Sprintf("a listener at both lines while %d packets want to pass: start, agent and charon killed, associations deleted, both boxes powered off", sent),
		fmt.Sprintf("%d packets in clear; %d ESP, %d IKE, %d between neighbours", len(heard), secret, ike, local))
	if len(heard) > 0 || secret == 0 || ike == 0 {
		t.Errorf("%d ESP, %d IKE; in clear: %s", secret, ike, strings.Join(heard, "\n"))
	}
}

// TestHostLineMoves: the main line dies and the alternative carries, back and
// forth; no session is lost (AT-174).
func TestHostLineMoves(t *testing.T) {
	stockOnly(t)
	w := start(t, Options{})
	packets, sessions := w.move(t, "main")
	ok := sessions == 0
	result("AT-174", ok, "the main line is cut under 20 sessions and 200 packets a second, through real tunnels", fmt.Sprintf("%d sessions and %d packets lost", sessions, packets))
	if !ok {
		t.Errorf("%d sessions lost", sessions)
	}
}

// TestHostLinePermits: only what is permitted passes the tunnel, and what isn't
// is counted (AT-26).
func TestHostLinePermits(t *testing.T) {
	stockOnly(t)
	w := start(t, Options{})
	ctx := t.Context()
	sessions, err := NewSessions(ctx, w.Clients[0], app, 1)
	must(t, err)
	sessions.Close()
	// Nothing at the hall listens for the DC but what is configured.
	c, err := w.App.Dial(ctx, "tcp", lab.Hall4+":22")
	if err == nil {
		c.Close()
		t.Error("the hall's port 22 answers the data centre")
	}
	var n control.Network
	must(t, w.Agent(w.Hall).Get(ctx, control.NetworkPath, &n))
	refused := uint64(0)
	for _, r := range n.Refused {
		refused += r.Packets
	}
	result("AT-26", refused > 0 && err != nil, "TCP to a host behind the tunnel; TCP to a port of the box that isn't open", fmt.Sprintf("the first passes, the second is refused: %d packets counted", refused))
	if refused == 0 {
		t.Errorf("nothing was counted: %+v", n.Refused)
	}
}

// interruption is a gap that people notice: TCP sends again after it.
const interruption = time.Second

// TestHostLineGrows: a municipality is added at the edge while another one
// works; no session is lost and nothing stops (AT-171). The edge's agent starts
// anew for a new peer, so that the paths change for a moment: a few packets may
// be lost on the way.
func TestHostLineGrows(t *testing.T) {
	stockOnly(t)
	w := build(t, Options{Further: 1, Idle: true})
	echo(t, w)
	ctx := t.Context()
	whole, err := os.ReadFile(Config(w.Edge))
	must(t, err)
	one, err := render(edgeTOML, w.Settings, hall{}, []hall{w.Halls[0].hall})
	must(t, err)
	must(t, os.WriteFile(Config(w.Edge), []byte(one), 0o644))
	for _, b := range []*lab.Host{w.Edge, w.Hall} {
		must(t, w.Start(ctx, b))
	}
	for _, path := range []string{"main", "alt"} {
		must(t, Until(ctx, 2*time.Minute, "the first hall", func() error { return w.PathUp(ctx, w.Hall, path) }))
	}
	sessions, err := NewSessions(ctx, w.Clients[0], app, 5)
	must(t, err)
	defer sessions.Close()
	f, err := NewFlow(ctx, w.Clients[0], app, 5*time.Millisecond, 64)
	must(t, err)
	begin := time.Now()
	must(t, Until(ctx, time.Minute, "a packet", func() error { return passed(f, begin) }))
	added := time.Now()
	var done control.Committed
	keeper := control.Client{Socket: w.Edge.RunDir() + "/pid1.sock"}
	must(t, keeper.Post(ctx, control.CommitPath, control.CommitOrder{Text: string(whole), By: "test"}, &done))
	second := w.Halls[1]
	must(t, w.Start(ctx, second.Box))
	must(t, Until(ctx, 2*time.Minute, "the second hall", func() error { return w.PathUp(ctx, second.Box, "main") }))
	r := f.Stop(added, 5*time.Second)
	lost := sessions.Lost(30 * time.Second)
	text := fmt.Sprintf("%d of 5 sessions lost, longest gap %d ms, %d of %d packets lost", lost, r.Gap.Milliseconds(), r.Lost, r.Sent)
	ok := lost == 0 && r.Gap < interruption
	result("AT-171", ok, "a second municipality is added at the edge while the first works, 200 packets a second", text)
	if !ok {
		t.Error(text)
	}
}
