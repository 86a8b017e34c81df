package netlab

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"komainu/appliance/accounts"
	"komainu/appliance/control"
	"komainu/drivers/files"
	"komainu/tools/lab"
)

const refusalsTOML = `[[interface]]
name = "office"
on = "office"
address = ["192.168.50.1/24", "2001:db8:50::1/64"]
[[interface]]
name = "main"
on = "main"
address = ["10.20.7.1/24", "2001:db8:7::1/64"]
[[peer]]
name = "hinata-cho"
role = "town-hall"
networks = ["192.168.60.0/24"]
[[path]]
name = "main"
peer = "hinata-cho"
interface = "main"
local = "10.20.7.1"
remote = "10.20.7.2"
gateway = ["10.20.7.2"]
[[allow]]
name = "counter"
from = "office"
source = ["192.168.50.7/32", "2001:db8:50::7/128"]
to = "main"
service = ["tcp/9100", "udp/9100"]
[health]
listen = ["10.20.7.1:8443"]
[[user]]
name = "sato"
role = "operator"
keys = ["%s"]
[console]
ssh = ["192.168.50.1:22"]
`

// attempt is one access that the box must refuse.
type attempt struct {
	from    *lab.Host
	network string // "tcp" or "udp"
	source  string // address and port
	to      string
	at      time.Time
	took    time.Duration
	err     error
}

// TestHostNetRefusals: whoever isn't permitted is told so at once (AT-140) and
// written down with time, terminal, target and rule (AT-143); only registered
// peers connect (AT-179); what operators do is written down too (AT-144).
func TestHostNetRefusals(t *testing.T) {
	p := newPlace(t)
	_, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	must(t, err)
	key := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	office, main := p.lan("office"), p.lan("main")
	counter := p.host("counter", office, "192.168.50.7/24", "2001:db8:50::7/64")
	stranger := p.host("stranger", office, "192.168.50.8/24", "2001:db8:50::8/64")
	peer := p.host("peer", main, "10.20.7.2/24", "2001:db8:7::2/64")
	other := p.host("other", main, "10.20.7.3/24", "2001:db8:7::3/64")
	p.start("192.168.50.1", fmt.Sprintf(refusalsTOML, key), lab.Port{Link: "office", LAN: office}, lab.Port{Link: "main", LAN: main})
	for _, at := range []string{"10.20.7.2:9100", "[2001:db8:7::2]:9100"} {
		greet(t, peer, at)
	}
	t.Run("terminals", func(t *testing.T) { p.terminals(t, counter, stranger) })
	t.Run("peers", func(t *testing.T) { p.peers(t, peer, other, stranger) })
	t.Run("operators", func(t *testing.T) { p.operators(t, counter, signer) })
}

// greet answers connections with a word.
func greet(t *testing.T, h *lab.Host, at string) {
	t.Helper()
	l, err := h.Listen(t.Context(), "tcp", at)
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("hello\n")) // the client may be gone
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

// patience is how long a refused one waits at most: people take longer for a hang.
const patience = 2 * time.Second

// try makes one attempt and notes how it ended.
func try(t *testing.T, from *lab.Host, network, source, to string) attempt {
	t.Helper()
	a := attempt{from: from, network: network, source: source, to: to, at: time.Now()}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var c net.Conn
	must(t, from.Do(func() error {
		d := net.Dialer{}
		if network == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(source))
		} else {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source))
		}
		c, a.err = d.DialContext(ctx, network, to)
		return nil
	}))
	if a.err == nil {
		defer c.Close()
		must(t, c.SetDeadline(time.Now().Add(patience)))
		if network == "udp" {
			_, _ = c.Write([]byte("hello")) // the answer counts
		}
		_, a.err = c.Read(make([]byte, 16))
	}
	a.took = time.Since(a.at)
	return a
}

// told: the refusal came as a message, not as silence.
func (a attempt) told() bool {
	return errors.Is(a.err, syscall.ECONNREFUSED) || errors.Is(a.err, syscall.EHOSTUNREACH) || errors.Is(a.err, syscall.EACCES)
}

// entry finds the log line of an attempt.
func (a attempt) entry(all []control.AccessEntry) (control.AccessEntry, bool) {
	source, to := netip.MustParseAddrPort(a.source), netip.MustParseAddrPort(a.to)
	for _, e := range all {
		if e.From == source.Addr().String() && e.FromPort == source.Port() && e.To == to.Addr().String() && e.ToPort == to.Port() &&
			e.Proto == a.network && e.Rule != "" && e.In != "" && e.Count >= 1 && e.Time.Sub(a.at).Abs() <= a.took+time.Second {
			return e, true
		}
	}
	return control.AccessEntry{}, false
}

// logged waits for the lines of all attempts, and says what is missing.
func (p *place) logged(t *testing.T, all []attempt) (found int, example string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		lines := p.refusals(all[0].at.Add(-time.Second))
		found = 0
		missing := ""
		for _, a := range all {
			if e, ok := a.entry(lines); ok {
				found++
				example = fmt.Sprintf("%s %s %s to %s by %q", e.Time.Format(time.RFC3339Nano), e.Proto, a.source, a.to, e.Rule)
			} else {
				missing = fmt.Sprintf("no line for %s %s to %s", a.network, a.source, a.to)
			}
		}
		if found == len(all) {
			return found, example
		}
		if time.Now().After(deadline) {
			return found, missing
		}
		time.Sleep(50 * time.Millisecond) // the box announces no line of a file
	}
}

// terminals: the one that [[allow]] names gets through, the one beside it is
// refused with a message.
func (p *place) terminals(t *testing.T, counter, stranger *lab.Host) {
	for _, x := range [][2]string{{"192.168.50.7:41000", "10.20.7.2:9100"}, {"[2001:db8:50::7]:41000", "[2001:db8:7::2]:9100"}} {
		if a := try(t, counter, "tcp", x[0], x[1]); a.err != nil {
			t.Errorf("the permitted terminal %s: %v", x[0], a.err)
		}
	}
	var all []attempt
	slowest, hung := time.Duration(0), 0
	for i, x := range []struct{ network, from, to string }{
		{"tcp", "192.168.50.8:%d", "10.20.7.2:9100"}, {"udp", "192.168.50.8:%d", "10.20.7.2:9100"}, {"tcp", "192.168.50.8:%d", "192.168.50.1:5432"},
		{"tcp", "[2001:db8:50::8]:%d", "[2001:db8:7::2]:9100"}, {"udp", "[2001:db8:50::8]:%d", "[2001:db8:7::2]:9100"}, {"tcp", "[2001:db8:50::8]:%d", "[2001:db8:50::1]:5432"},
	} {
		a := try(t, stranger, x.network, fmt.Sprintf(x.from, 42000+i), x.to)
		if slowest = max(slowest, a.took); !a.told() {
			hung++
			t.Logf("%s %s to %s: %v after %v", a.network, a.source, a.to, a.err, a.took)
		}
		all = append(all, a)
	}
	result(t, "AT-140", !t.Failed() && hung == 0 && slowest < 5*time.Second,
		"a terminal that no [[allow]] names tries services beyond and on the box, TCP and UDP, IPv4 and IPv6, beside one that is named",
		fmt.Sprintf("%d of %d refused with a message, the slowest after %v; the named one got through", len(all)-hung, len(all), slowest.Round(10*time.Microsecond)))
	found, example := p.logged(t, all)
	result(t, "AT-143", found == len(all), "the same attempts, looked for in the box's log by time, terminal, port and target",
		fmt.Sprintf("%d of %d logged: %s", found, len(all), example))
}

// peers: the registered one reaches the box over the line, others don't.
func (p *place) peers(t *testing.T, peer, other, stranger *lab.Host) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := peer.Dial(ctx, "tcp", "10.20.7.1:8443")
	if err != nil {
		t.Errorf("the registered peer: %v", err)
	} else {
		c.Close()
	}
	all := []attempt{
		try(t, other, "tcp", "10.20.7.3:43000", "10.20.7.1:8443"),
		try(t, other, "udp", "10.20.7.3:43001", "10.20.7.1:4795"),
		try(t, other, "tcp", "10.20.7.3:43002", "192.168.50.7:9100"),
		try(t, other, "tcp", "[2001:db8:7::3]:43003", "[2001:db8:7::1]:22"),
		try(t, stranger, "tcp", "192.168.50.8:43004", "10.20.7.1:8443"),
	}
	reached := 0
	for _, a := range all {
		if a.err == nil {
			reached++
		}
	}
	found, example := p.logged(t, all)
	result(t, "AT-179", !t.Failed() && reached == 0 && found == len(all),
		"the registered peer and two others try the box's services over the line and across it",
		fmt.Sprintf("the peer connected; %d of %d others refused, %d logged: %s", len(all)-reached, len(all), found, example))
}

// operators: what a person does on the console, and what is refused there.
func (p *place) operators(t *testing.T, from *lab.Host, signer ssh.Signer) {
	begin := time.Now().Add(-time.Second)
	login := func(user string, auth ssh.AuthMethod) (*ssh.Client, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := from.Dial(ctx, "tcp", "192.168.50.1:22")
		if err != nil {
			return nil, err
		}
		must(t, c.SetDeadline(time.Now().Add(30*time.Second)))
		// The host's key is made on the box's first start: nobody here can know it.
		conn, chans, reqs, err := ssh.NewClientConn(c, "box", &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{auth}, HostKeyCallback: ssh.InsecureIgnoreHostKey()}) //nolint:gosec // see above
		if err != nil {
			c.Close()
			return nil, err
		}
		return ssh.NewClient(conn, chans, reqs), nil
	}
	var client *ssh.Client
	eventually(t, time.Minute, func() (err error) {
		client, err = login("sato", ssh.PublicKeys(signer))
		return err
	})
	s, err := client.NewSession()
	must(t, err)
	if out, err := s.CombinedOutput("show status"); err != nil {
		t.Errorf("show status: %v: %s", err, out)
	}
	client.Close()
	if c, err := login("sato", ssh.Password("wrong")); err == nil {
		c.Close()
		t.Error("a wrong password was taken")
	}
	var lines []accounts.Entry
	want := map[string]bool{"show status/ok": false, "login/ok": false, "login/wrong": false}
	deadline := time.Now().Add(time.Minute)
	missing := len(want)
	for missing > 0 && time.Now().Before(deadline) {
		if lines, err = files.ReadJournal[accounts.Entry](p.box.StateDir() + "/log/audit.ndjson"); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range lines {
			k := e.Operation + "/" + e.Result
			if seen, ok := want[k]; ok && !seen && e.User == "sato" && e.Name != "" && strings.HasPrefix(e.Terminal, "ssh 192.168.50.7") && e.Time.After(begin) {
				want[k] = true
				missing--
			}
		}
		time.Sleep(50 * time.Millisecond) // as above
	}
	example := ""
	if n := len(lines); n > 0 {
		example = fmt.Sprintf("; for example %+v", lines[n-1])
	}
	result(t, "AT-144", !t.Failed() && missing == 0,
		"an operator logs in by SSH, runs a command, and is refused with a wrong password",
		fmt.Sprintf("%d of %d lines with time, operator's ID and name, terminal, operation and its words, result %v%s", len(want)-missing, len(want), want, example))
}
