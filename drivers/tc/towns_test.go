package tc_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	gotc "github.com/florianl/go-tc"
	"golang.org/x/sys/unix"

	"komainu/drivers/tc"
	"komainu/netstack/qos"
)

// towns is the tree of a hub's line for municipalities of one class each, without
// the queues of leaves: not every kernel has fq_codel.
func towns(n int, most uint64) qos.Tree {
	l := qos.Line{Link: "wan", Kind: qos.HTB, Rate: 10e9, Classes: []qos.Rate{{Class: "business", Max: most}}}
	for i := range n {
		l.Shares = append(l.Shares, qos.Share{Peer: fmt.Sprintf("town-%d", i), Min: 1e6})
	}
	return leafless(qos.Plan{Lines: []qos.Line{l}, Classes: []qos.Class{{Name: "business", Number: qos.MaxClasses}}}.Trees(qos.Moment{})[0])
}

// TestHostTowns is what 1,700 municipalities cost: to add them, to change every
// one, and to find that nothing is to be done. An idle machine of two cores takes
// less than 300, 50 and 50 ms.
func TestHostTowns(t *testing.T) {
	connected(t, func(c *tc.Conn) error {
		const many = 1700
		first, second := towns(many, 50e6), towns(many, 40e6)
		for range 3 {
			for _, x := range []struct {
				what    string
				tree    qos.Tree
				changes int
			}{{"add", first, many + 3}, {"change", second, many + 1}, {"look", second, 0}} {
				begin := time.Now()
				n, err := c.Apply(x.tree)
				if err != nil {
					return err
				}
				t.Logf("%s: %d changes in %v", x.what, n, time.Since(begin))
				if n != x.changes {
					t.Errorf("%s: %d changes, want %d", x.what, n, x.changes)
				}
			}
			if err := c.Clear("wan"); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestHostOthersReadIt: what is written is what another reader finds.
func TestHostOthersReadIt(t *testing.T) {
	connected(t, func(c *tc.Conn) error {
		tree := towns(2, 40e6)
		if _, err := c.Apply(tree); err != nil {
			return err
		}
		other, err := gotc.Open(nil)
		if err != nil {
			return err
		}
		defer other.Close()
		wan, err := net.InterfaceByName("wan")
		if err != nil {
			return err
		}
		classes, err := other.Class().Get(&gotc.Msg{Family: unix.AF_UNSPEC, Ifindex: uint32(wan.Index)})
		if err != nil {
			return err
		}
		found := map[uint16]gotc.HtbOpt{}
		for _, x := range classes {
			found[uint16(x.Handle)] = *x.Htb.Parms
		}
		for _, n := range tree.Nodes {
			if o := found[n.ID]; uint64(o.Rate.Rate) != n.Rate/8 || uint64(o.Ceil.Rate) != n.Ceil/8 {
				t.Errorf("class %x: %+v, want %+v", n.ID, o, n)
			}
		}
		if len(found) != len(tree.Nodes) {
			t.Errorf("%d classes, want %d", len(found), len(tree.Nodes))
		}
		return nil
	})
}

// TestHostSharesGetClasses: peers whose one class becomes several, and back, move
// to other parents.
func TestHostSharesGetClasses(t *testing.T) {
	connected(t, func(c *tc.Conn) error {
		several := leafless(line(qos.HTB, 2, 1e6))
		one := towns(2, 40e6)
		expect(t, c, one, "one class", 1+4)
		expect(t, c, several, "three classes", 2+2+2+4*2) // two move, root and rest change
		expect(t, c, one, "one again", 2+4*2+2+2)
		return nil
	})
}
