package tc_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"komainu/drivers/netns"
	"komainu/drivers/netns/netnstest"
	"komainu/drivers/tc"
	"komainu/netstack/qos"
)

// inside runs f in the box of a small town, on a kernel with HTB and fq_codel.
func inside(t *testing.T, f func(c *tc.Conn)) netnstest.Town {
	t.Helper()
	return connected(t, func(c *tc.Conn) error {
		if _, err := c.Apply(qos.Tree{Link: "wan", Kind: qos.CAKE, Rate: 1e6}); err != nil {
			if os.Getenv("KOMAINU_VM") == "1" {
				return err
			}
			t.Skip("this kernel has no CAKE: make vm:", err)
		}
		if err := c.Clear("wan"); err != nil {
			return err
		}
		f(c)
		return nil
	})
}

// connected gives f a connection to a box with a link "wan".
func connected(t *testing.T, f func(*tc.Conn) error) netnstest.Town {
	t.Helper()
	town := netnstest.New(t)
	if err := netns.Do(town.Box, func() error {
		c, err := tc.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		return f(c)
	}); err != nil {
		t.Fatal(err)
	}
	return town
}

// leafless takes the queues of leaves away.
func leafless(tree qos.Tree) qos.Tree {
	for i := range tree.Nodes {
		tree.Nodes[i].Leaf = false
	}
	return tree
}

// line is a line with a bulk class of bits/s.
func line(kind qos.Kind, peers int, bits uint64) qos.Tree {
	l := qos.Line{Link: "wan", Kind: kind, Rate: 100e6, Overhead: 4,
		Classes: []qos.Rate{{Class: "heartbeat", Min: 1e6}, {Class: "bulk", Max: bits, Prio: 6}}}
	for i := range peers {
		l.Shares = append(l.Shares, qos.Share{Peer: fmt.Sprintf("town-%d", i), Min: 1e6})
	}
	return qos.Plan{Lines: []qos.Line{l}, Classes: []qos.Class{{Name: "heartbeat", Number: 1, Match: []qos.Match{{Proto: "udp", Port: 4795}}}, {Name: "bulk", Number: 2, Match: []qos.Match{{Proto: "tcp", Port: 445}}}, {Name: "rest", Number: qos.MaxClasses}}}.Trees(qos.Moment{})[0]
}

func apply(t *testing.T, c *tc.Conn, tree qos.Tree) int {
	t.Helper()
	n, err := c.Apply(tree)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// expect is how many changes the next Apply makes.
func expect(t *testing.T, c *tc.Conn, tree qos.Tree, what string, want int) {
	t.Helper()
	if n := apply(t, c, tree); n != want {
		t.Errorf("%s: %d changes, want %d", what, n, want)
	}
	if n := apply(t, c, tree); n != 0 {
		t.Errorf("%s, again: %d changes", what, n)
	}
}

func TestHostTreesAreMadeAndKept(t *testing.T) {
	inside(t, func(c *tc.Conn) {
		two := line(qos.HTB, 2, 384e3)
		expect(t, c, two, "from nothing", 1+len(two.Nodes)+9)
		expect(t, c, line(qos.HTB, 2, 1e6), "another rate of bulk", 3+3) // slow queues wait longer
		three := line(qos.HTB, 3, 1e6)
		expect(t, c, three, "one more peer", 4+3)
		expect(t, c, two, "back", 4+3+3)
		counts, err := c.Counters("wan")
		if err != nil || len(counts) != len(two.Nodes) {
			t.Errorf("%d counters, %v", len(counts), err)
		}
		// By hand.
		for _, x := range []struct {
			by   string
			want int
		}{
			{"class change dev wan parent 4b0:fff0 classid 4b0:1 htb rate 5mbit", 1},
			{"qdisc replace dev wan parent 4b0:1 pfifo", 1},
			{"qdisc del dev wan root", 1 + len(two.Nodes) + 9},
			{"qdisc replace dev wan root pfifo", 1 + len(two.Nodes) + 9},
		} {
			if out, err := exec.Command("tc", strings.Fields(x.by)...).CombinedOutput(); err != nil {
				t.Fatalf("tc %s: %v: %s", x.by, err, out)
			}
			expect(t, c, two, x.by, x.want)
		}
		cake := line(qos.CAKE, 0, 0)
		expect(t, c, cake, "cake in place of the tree", 2)
		cake.Rate = 5e6
		expect(t, c, cake, "its rate", 1)
		if err := c.Clear("wan"); err != nil {
			t.Error(err)
		}
		if counts, err := c.Counters("wan"); err != nil || len(counts) != 0 {
			t.Errorf("%v, %v", counts, err)
		}
	})
}

func TestHostForeignQueuesStay(t *testing.T) {
	inside(t, func(c *tc.Conn) {
		show := func() string {
			out, err := exec.Command("tc", "qdisc", "show", "dev", "lan").CombinedOutput()
			if err != nil {
				t.Fatal(err)
			}
			what, _, _ := strings.Cut(string(out), "direct_packets") // counts what passes
			return what
		}
		if out, err := exec.Command("tc", "qdisc", "replace", "dev", "lan", "root", "handle", "7:", "htb", "default", "5").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		before := show()
		apply(t, c, line(qos.HTB, 1, 1e6))
		if err := c.Clear("lan"); err != nil {
			t.Error(err)
		}
		if after := show(); after != before {
			t.Errorf("before %s, after %s", before, after)
		}
	})
}

func TestHostLinkThatIsGone(t *testing.T) {
	inside(t, func(c *tc.Conn) {
		tree := line(qos.HTB, 0, 1e6)
		tree.Link = "gone"
		if _, err := c.Apply(tree); !errors.Is(err, tc.ErrNoLink) {
			t.Error(err)
		}
		if err := c.Clear("gone"); err != nil {
			t.Error(err)
		}
	})
}

// TestHostManyPeers: the shares of a prefecture's hub, without the queues of
// leaves where the kernel has no fq_codel.
func TestHostManyPeers(t *testing.T) {
	connected(t, func(c *tc.Conn) error {
		bare := func(peers int, bits uint64) qos.Tree { return leafless(line(qos.HTB, peers, bits)) }
		const many = 1700
		for _, x := range []struct {
			what string
			tree qos.Tree
			want int
		}{
			{"all at once", bare(many, 1e6), 1 + len(bare(many, 1e6).Nodes)},
			{"another rate", bare(many, 2e6), many + 1},
			{"one more", bare(many+1, 2e6), 4},
		} {
			begin := time.Now()
			n, err := c.Apply(x.tree)
			if err != nil {
				return err
			}
			t.Logf("%s: %d changes in %v", x.what, n, time.Since(begin))
			if n != x.want {
				t.Errorf("%s: %d changes, want %d", x.what, n, x.want)
			}
			if n, err := c.Apply(x.tree); n != 0 || err != nil {
				t.Errorf("%s, again: %d changes, %v", x.what, n, err)
			}
		}
		return nil
	})
}
