package netlab

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/drivers/rtnl"
	"komainu/netstack/plan"
	"komainu/tools/lab"
)

// figure prints one measured value.
func figure(name string, value float64) {
	fmt.Println(strings.Join([]string{Figure, name, strconv.FormatFloat(value, 'f', 3, 64)}, "\t"))
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// rounds is how often each figure is taken.
func rounds(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("NETLAB_ROUNDS"))
	if err != nil {
		t.Skip("is for make bench")
	}
	return n
}

// TestHostFiguresBond: carrier lost by the port in use.
func TestHostFiguresBond(t *testing.T) {
	n := rounds(t)
	stockOnly(t)
	for _, mode := range []string{"active-backup", "802.3ad"} {
		t.Run(mode, func(t *testing.T) {
			for taken := 0; taken < n; {
				gaps, _, told := bondFaults(t, mode)
				for _, g := range gaps {
					figure("gap "+mode, millis(g))
				}
				figure("told "+mode, millis(told))
				taken += len(gaps)
			}
		})
	}
}

// Size of the large configuration.
const (
	manyVLANs  = 100
	manyRoutes = 500
	manyAllows = 200
)

// large is a configuration of 100 VLANs, 200 addresses, 500 routes and 200
// permissions; one is the last octet of the first address.
func large(one int) string {
	var b strings.Builder
	for i := range manyVLANs {
		own := 1
		if i == 0 {
			own = one
		}
		fmt.Fprintf(&b, "[[interface]]\nname = \"v%d\"\non = \"port0.%d\"\naddress = [\"10.8.%d.%d/24\", \"2001:db8:8:%x::1/64\"]\n", i, 1000+i, i, own, i+1)
	}
	for i := range manyRoutes {
		fmt.Fprintf(&b, "[[route]]\nname = \"r%d\"\nto = \"172.%d.%d.0/24\"\nvia = \"10.8.%d.254\"\ninterface = \"v%d\"\n", i, 16+i/250, i%250, i%manyVLANs, i%manyVLANs)
	}
	for i := range manyAllows {
		fmt.Fprintf(&b, "[[allow]]\nname = \"a%d\"\nfrom = \"v%d\"\nto = \"v%d\"\ndestination = [\"10.8.%d.%d/32\"]\nservice = [\"tcp/9100\"]\n",
			i, i%manyVLANs, (i+1)%manyVLANs, (i+1)%manyVLANs, 100+i/manyVLANs)
	}
	return b.String()
}

// office is the interface that the box has besides.
const office = "[[interface]]\nname = \"office\"\non = \"office\"\naddress = [\"192.168.50.1/24\"]\n"

func (p *place) keeper() control.Client {
	return control.Client{Socket: filepath.Join(p.box.RunDir(), "pid1.sock")}
}

// commit puts toml, behind the frame, into use and tells how long that took.
func (p *place) commit(toml string, confirm float64) (control.Committed, time.Duration) {
	p.t.Helper()
	var done control.Committed
	begin := time.Now()
	must(p.t, p.keeper().Post(p.t.Context(), control.CommitPath,
		control.CommitOrder{Text: fmt.Sprintf(frame, "192.168.50.1") + toml, By: "bench", ConfirmS: confirm}, &done))
	return done, time.Since(begin)
}

// TestHostFiguresApply: a large configuration from nothing, again, and changed a little.
func TestHostFiguresApply(t *testing.T) {
	n := rounds(t)
	stockOnly(t)
	for range n {
		t.Run("", func(t *testing.T) {
			p := newPlace(t)
			p.start("192.168.50.1", office, lab.Port{Link: "office", LAN: p.lan("office")}, lab.Port{Link: "port0", LAN: p.lan("trunk")})
			done, took := p.commit(office+large(1), 0)
			figure("apply", millis(took))
			figure("apply changes", float64(len(done.Changes)))
			p.again()
			time.Sleep(rest)
			done, took = p.commit(office+large(2), 0)
			elsewhere := 0
			for _, c := range done.Changes {
				t.Log(c)
				if !strings.Contains(c+" ", " on port0.1000 ") && !strings.Contains(c, "firewall") {
					elsewhere++
				}
			}
			figure("one address", millis(took))
			figure("one address changes", float64(len(done.Changes)))
			figure("one address elsewhere", float64(elsewhere))
			p.alone()
		})
	}
}

// rest is how long a box in emulation is left alone between two figures.
const rest = 5 * time.Second

// again has the agent take the file that it works with already.
func (p *place) again() {
	p.t.Helper()
	n := p.until(time.Minute, func(n control.Network) error {
		if !n.Settled {
			return fmt.Errorf("not as configured: %v", n.Problems)
		}
		return nil
	})
	time.Sleep(rest) // the agent looks once more at what it has changed
	var done control.Reloaded
	begin := time.Now()
	must(p.t, p.control.Post(p.t.Context(), control.ReloadPath, control.ReloadOrder{Digest: n.Digest}, &done))
	figure("again", millis(time.Since(begin)))
	figure("again changes", float64(len(done.Changes)))
}

// alone times what the driver and the plan cost of it.
func (p *place) alone() {
	p.t.Helper()
	must(p.t, p.box.Do(func() error {
		c, err := rtnl.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		begin := time.Now()
		have, err := c.Observe()
		if err != nil {
			return err
		}
		looked := time.Since(begin)
		begin = time.Now()
		left := plan.Diff(have, have)
		figure("observe", millis(looked))
		figure("plan", millis(time.Since(begin)))
		if len(left) > 0 {
			return fmt.Errorf("%v is left to do", left)
		}
		return nil
	}))
}

// TestHostFiguresConfirm: a change cuts the way to the box, and nobody confirms.
func TestHostFiguresConfirm(t *testing.T) {
	n := rounds(t)
	const wait = 10 // s, the least
	p := newPlace(t)
	lan, other := p.lan("office"), p.lan("other")
	client := p.host("client", lan, "192.168.50.7/24")
	p.host("stranger", other, "10.9.0.2/24")
	more := "[[interface]]\nname = \"other\"\non = \"other\"\naddress = [\"10.9.0.1/24\"]\n[health]\nlisten = [\"192.168.50.1:8443\"]\n" +
		"[[allow]]\nname = \"echo\"\nfrom = \"other\"\nto = \"box\"\nservice = [\"tcp/7001\"]\n"
	p.start("192.168.50.1", office+more, lab.Port{Link: "office", LAN: lan}, lab.Port{Link: "other", LAN: other})
	stranger, err := p.Host("stranger")
	must(t, err)
	lives := session(t, stranger, p.box, "10.9.0.1:7001")
	reach := func() error {
		c, err := client.Dial(t.Context(), "tcp", "192.168.50.1:8443")
		if err == nil {
			err = c.Close()
		}
		return err
	}
	eventually(t, 30*time.Second, reach)
	for range n {
		begin := time.Now()
		cut := strings.Replace(office, "192.168.50.1/24", "192.168.50.77/24", 1)
		text := strings.ReplaceAll(fmt.Sprintf(frame, "192.168.50.77")+cut+more, "192.168.50.1:", "192.168.50.77:")
		var done control.Committed
		eventually(t, 30*time.Second, func() error { // the keeper may still be at the return of the round before
			return p.keeper().Post(t.Context(), control.CommitPath, control.CommitOrder{Text: text, By: "bench", ConfirmS: wait}, &done)
		})
		deadline := time.Now().Add(time.Duration(done.Revision.BackS * float64(time.Second)))
		if reach() == nil {
			t.Fatal("the change cut nothing")
		}
		for time.Now().Before(deadline) { // nobody is to be asked before
			time.Sleep(time.Until(deadline))
		}
		eventually(t, 30*time.Second, reach)
		figure("back", millis(time.Since(deadline)))
		lost := 0.0
		if err := lives(); err != nil {
			lost = 1
			t.Logf("the session of another network: %v", err)
		}
		figure("sessions lost", lost)
		t.Logf("round of %v", time.Since(begin).Round(time.Millisecond))
	}
}

// session is a TCP connection from a host to the box; the func asks whether it
// still carries.
func session(t *testing.T, from, to *lab.Host, at string) func() error {
	t.Helper()
	ln, err := to.Listen(t.Context(), "tcp", at)
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			accepted <- c
			_, _ = io.Copy(c, c) // ends with the test
		}
	}()
	var c net.Conn
	eventually(t, 30*time.Second, func() (err error) {
		c, err = from.Dial(t.Context(), "tcp", netip.MustParseAddrPort(at).String())
		return err
	})
	served := <-accepted
	t.Cleanup(func() { c.Close(); served.Close() })
	return func() error {
		must(t, c.SetDeadline(time.Now().Add(time.Minute)))
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
}
