// Package netnstest builds the small town that tests of kernel drivers run in:
// a client, a box and a data centre, each a network namespace, joined by two
// links, IPv4 and IPv6 alike. Only tests import it.
package netnstest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"komainu/drivers/netns"
)

// Addresses of the town, IPv4 first.
var (
	ClientAddr = [2]netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("fd00:1::10")}
	BoxLAN     = [2]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fd00:1::1")}
	Stable     = [2]netip.Addr{netip.MustParseAddr("192.0.2.100"), netip.MustParseAddr("fd00:1::100")} // on the box
	BoxWAN     = [2]netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("fd00:2::1")}
	DCAddr     = [2]netip.Addr{netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("fd00:2::2")}
)

// Patience is how long a test waits for what has to come: a bound for the
// slowest machine, no measure.
const Patience = 30 * time.Second

// Town is the names of the namespaces. Links: client "lan", box "lan" and
// "wan", data centre "wan".
type Town struct{ Client, Box, DC string }

var towns atomic.Int32

// New builds a town and takes it away with the test. Skips without root.
func New(t *testing.T) Town {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	id := fmt.Sprintf("kmt-%d-%d-", os.Getpid(), towns.Add(1))
	town := Town{id + "client", id + "box", id + "dc"}
	for _, name := range []string{town.Client, town.Box, town.DC} {
		if err := netns.New(name); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := netns.Delete(name); err != nil {
				t.Error(err)
			}
		})
		Do(t, name, func() error {
			for _, key := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
				if err := os.WriteFile("/proc/sys/net/"+key, []byte("1"), 0o644); err != nil {
					return err
				}
			}
			for _, conf := range []string{"all", "default"} {
				if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+conf+"/accept_dad", []byte("0"), 0o644); err != nil {
					return err
				}
			}
			return nil
		})
	}
	IP(t, town.Box, fmt.Sprintf(`link set lo up
link add lan type veth peer name lan netns %s
link add wan type veth peer name wan netns %s
link set lan up
link set wan up
addr add 192.0.2.1/24 dev lan
addr add 192.0.2.100/32 dev lan
addr add fd00:1::1/64 dev lan nodad
addr add fd00:1::100/128 dev lan nodad
addr add 198.51.100.1/24 dev wan
addr add fd00:2::1/64 dev wan nodad`, town.Client, town.DC))
	IP(t, town.Client, `link set lo up
link set lan up
addr add 192.0.2.10/24 dev lan
addr add fd00:1::10/64 dev lan nodad
route add default via 192.0.2.1
route add default via fd00:1::1`)
	IP(t, town.DC, `link set lo up
link set wan up
addr add 198.51.100.2/24 dev wan
addr add fd00:2::2/64 dev wan nodad
route add default via 198.51.100.1
route add default via fd00:2::1`)
	for _, x := range [][2]string{{town.Client, "lan"}, {town.Box, "lan"}, {town.Box, "wan"}, {town.DC, "wan"}} {
		awaitIPv6(t, x[0], x[1])
	}
	return town
}

// awaitIPv6 waits until a link's IPv6 works: the kernel begins with it when it
// tells that there is carrier, up to a second later, and loses what is sent
// before. The link-local address comes at that moment.
func awaitIPv6(t *testing.T, name, link string) {
	t.Helper()
	const tentative = 0x40 // IFA_F_TENTATIVE
	for end := time.Now().Add(Patience); ; time.Sleep(2 * time.Millisecond) {
		var all []byte
		Do(t, name, func() (err error) {
			all, err = os.ReadFile("/proc/thread-self/net/if_inet6")
			return err
		})
		for line := range strings.Lines(string(all)) {
			var addr, at string
			var index, length, scope, flags int
			if _, err := fmt.Sscanf(line, "%s %x %x %x %x %s", &addr, &index, &length, &scope, &flags, &at); err != nil {
				t.Fatal(err)
			}
			if at == link && strings.HasPrefix(addr, "fe80") && flags&tentative == 0 {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%s of %s has no IPv6: %s", link, name, all)
		}
	}
}

// IP runs lines of iproute2 in a namespace.
func IP(t *testing.T, name, lines string) {
	t.Helper()
	Do(t, name, func() error {
		c := exec.Command("ip", "-batch", "-")
		c.Stdin = strings.NewReader(lines + "\n")
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("ip in %s: %w: %s", name, err, out)
		}
		return nil
	})
}

// Run runs a command in a namespace and returns what it prints.
func Run(t *testing.T, name string, argv ...string) string {
	t.Helper()
	var out []byte
	Do(t, name, func() (err error) {
		out, err = exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
		}
		return nil
	})
	return string(out)
}

// Do runs f in a namespace; an error ends the test.
func Do(t *testing.T, name string, f func() error) {
	t.Helper()
	if err := netns.Do(name, f); err != nil {
		t.Fatal(err)
	}
}

// Serve starts an echo server at addr in a namespace. It greets every
// connection with a line: its own word, and the address it sees the client
// come from. It ends with the test.
func Serve(t *testing.T, name, word string, addr netip.AddrPort) {
	t.Helper()
	var l net.Listener
	Do(t, name, func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(context.Background(), "tcp", addr.String())
		return err
	})
	var all sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				fmt.Fprintf(c, "%s %s\n", word, c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
				b := make([]byte, 512)
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					if _, err := c.Write(b[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
}

// Client is one connection to a server of Serve.
type Client struct {
	net.Conn
	Greeting string // word and address, as the server sent them
	lines    *bufio.Reader
}

// Dial connects from a namespace within d and reads the greeting.
func Dial(t *testing.T, name string, to netip.AddrPort, d time.Duration) (*Client, error) {
	t.Helper()
	var c *Client
	err := netns.Do(name, func() error {
		n, err := net.DialTimeout("tcp", to.String(), d)
		if err != nil {
			return err
		}
		t.Cleanup(func() { n.Close() })
		c = &Client{Conn: n, lines: bufio.NewReader(n)}
		n.SetReadDeadline(time.Now().Add(d))
		line, err := c.lines.ReadString('\n')
		if err != nil {
			return err
		}
		c.Greeting = strings.TrimSpace(line)
		return n.SetReadDeadline(time.Time{})
	})
	return c, err
}

// MustDial is Dial with all patience, and the greeting has to be as expected.
func MustDial(t *testing.T, name string, to netip.AddrPort, greeting string) *Client {
	t.Helper()
	c, err := Dial(t, name, to, Patience)
	if err != nil {
		t.Fatalf("dial %s: %v", to, err)
	}
	if c.Greeting != greeting {
		t.Fatalf("%s answered %q, want %q", to, c.Greeting, greeting)
	}
	return c
}

// Echo sends a line and waits up to d for it to come back.
func (c *Client) Echo(d time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("echo\n")); err != nil {
		return err
	}
	_, err := c.lines.ReadString('\n')
	return err
}
