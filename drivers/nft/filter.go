package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"komainu/netstack/firewall"
)

// Filter is the one writer of the table komainu_filter, over lasting netlink
// sockets in the network namespace in which it was opened. Its methods may be
// called from several goroutines.
type Filter struct {
	mu      sync.Mutex
	conn    *nftables.Conn
	counter *netlink.Conn // asks for the generation, which the library can't
	want    *wanted       // of the last Apply
	seen    *observed     // what was read back in the generation seenIn
	seenIn  uint32        // 0: nothing was read yet
}

// Count is what rules of one name have matched since they were applied.
type Count struct {
	Rule           string
	Packets, Bytes uint64
}

func filterTable() *nftables.Table {
	return &nftables.Table{Name: firewall.Table, Family: nftables.TableFamilyINet}
}

// OpenFilter connects to nftables. Needs CAP_NET_ADMIN; changes nothing.
func OpenFilter() (*Filter, error) {
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	counter, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a netlink socket to nftables: %w", err), conn.CloseLasting())
	}
	return &Filter{conn: conn, counter: counter, want: &wanted{}}, nil
}

// Close closes the sockets. The kernel goes on filtering as it did.
func (f *Filter) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.conn.CloseLasting(), f.counter.Close())
}

// Apply makes the table like r in one transaction, or leaves it as it was. It
// reads the table back first: if nothing differs, nothing is sent and changed is
// false. An empty Ruleset deletes the table. A Ruleset that can't be expressed
// gives ErrRuleset. After a change all counters and rates start anew;
// connections that are tracked go on.
func (f *Filter) Apply(r firewall.Ruleset) (changed bool, err error) {
	want, err := encode(r)
	if err != nil {
		return false, fmt.Errorf("apply the firewall: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	changed, err = f.change(want)
	if lost(err) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EEXIST) {
		// The acknowledgement was lost, not the order; or somebody else changed
		// the table after we looked: look again, and do what is left.
		_, err = f.change(want)
		changed = true
	}
	if err != nil {
		return false, fmt.Errorf("apply %d chains and %d sets of the firewall to nftables table %s: %w",
			len(r.Chains), len(r.Sets), firewall.Table, err)
	}
	f.want = want
	return changed, nil
}

// Matches reads the table back and says whether it is what the last Apply made
// it; before the first one, whether it isn't there.
func (f *Filter) Matches() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	have, err := f.observe()
	if err != nil {
		return false, fmt.Errorf("compare the firewall with nftables table %s: %w", firewall.Table, err)
	}
	return f.want.is(have), nil
}

// Counters returns the counters of all named rules, in the order of the rules;
// none if the table isn't there. They restart with every Apply that changes
// something.
func (f *Filter) Counters() ([]Count, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	have, err := f.observeRules()
	if err != nil {
		return nil, fmt.Errorf("read the counters of nftables table %s: %w", firewall.Table, err)
	}
	if have == nil {
		return nil, nil
	}
	// Chains as we wanted them come first: the kernel lists them as they were made.
	var all []Count
	at := map[string]int{}
	for _, c := range f.want.chains {
		for _, r := range have.rules[c.Name] {
			if r.count == nil {
				continue
			}
			name := nameOf(r.comment)
			if name == "" {
				continue
			}
			i, ok := at[name]
			if !ok {
				i, at[name] = len(all), len(all)
				all = append(all, Count{Rule: name})
			}
			all[i].Packets += r.count.Packets
			all[i].Bytes += r.count.Bytes
		}
	}
	return all, nil
}

// change does one transaction from what is there to want. All rules are
// replaced, but base chains and sets of networks that stay are kept, since what
// is made and deleted whole isn't there for an instant while a transaction takes
// effect: a deleted base chain still stands at its hook, without rules, and its
// policy drops packets; a new set of intervals is still empty in newer kernels
// (seen on 6.18), although the new rules look it up.
func (f *Filter) change(want *wanted) (bool, error) {
	have, err := f.observe()
	if err != nil {
		return false, err
	}
	if want.is(have) {
		return false, nil
	}
	t := filterTable()
	if want.empty() {
		f.conn.DelTable(t)
		return true, flush(&f.conn)
	}
	if have == nil {
		have = &observed{}
	}
	f.conn.AddTable(t)
	if err := f.clear(want, have); err != nil {
		return false, err
	}
	for _, c := range want.chains {
		f.conn.AddChain(c.chain())
	}
	_, sets := have.byName()
	for _, s := range want.sets {
		if err := f.fill(s, sets[s.set().Name], have); err != nil {
			return false, err
		}
	}
	for _, c := range want.chains {
		for _, r := range c.rules {
			for _, s := range r.sets {
				if err := f.conn.AddSet(s.set(), s.elements); err != nil {
					return false, err
				}
			}
			f.conn.AddRule(&nftables.Rule{Table: t, Chain: c.chain(), Exprs: r.exprs, UserData: comment(r.comment)})
		}
	}
	return true, flush(&f.conn)
}

// clear prepares the removal of all rules, and of the chains, sets and elements of
// sets that don't stay. A chain can go only when no element leads to it.
func (f *Filter) clear(want *wanted, have *observed) error {
	for _, c := range have.chains {
		f.conn.FlushChain(c)
	}
	chains, sets := have.byName()
	for _, s := range want.sets {
		set := s.set()
		if sets[set.Name] == nil || !s.stays(sets[set.Name]) {
			continue
		}
		delete(sets, set.Name)
		for part := range slices.Chunk(missing(have.elements[set.Name], byKey(s.elements)), s.chunk()) {
			if err := f.conn.SetDeleteElements(set, part); err != nil {
				return err
			}
		}
	}
	for _, c := range want.chains {
		if o := chains[c.Name]; o != nil && c.sameHook(o) {
			delete(chains, c.Name)
		}
	}
	for _, o := range have.sets {
		if sets[o.Name] != nil {
			f.conn.DelSet(o)
		}
	}
	for _, o := range have.chains {
		if chains[o.Name] != nil {
			f.conn.DelChain(o)
		}
	}
	return nil
}

// fill prepares what is to come into a set, from its elements in the kernel if the
// one there stays.
func (f *Filter) fill(s filterSet, there *nftables.Set, have *observed) error {
	set := s.set()
	var old map[string]nftables.SetElement
	if there != nil && s.stays(there) {
		old = have.elements[set.Name]
	} else if err := f.conn.AddSet(set, nil); err != nil {
		return err
	}
	for part := range slices.Chunk(missing(byKey(s.elements), old), s.chunk()) {
		if err := f.conn.SetAddElements(set, part); err != nil {
			return err
		}
	}
	return nil
}

// chunk is how many elements one attribute (64 KiB) holds.
func (s filterSet) chunk() int {
	if s.set().IsMap { // with the name of a chain
		return chunk / 4
	}
	return chunk
}

// Watch calls d once it listens, and whenever somebody, this program too, has
// changed something in the table komainu_filter, or when notices were lost: the
// caller looks with Matches. It calls without overlap from its own goroutine
// until ctx ends, and returns nil then. It works in the network namespace of the
// calling thread at the time of the call.
func (*Filter) Watch(ctx context.Context, d func()) error {
	if err := watch(ctx, d); err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	return nil
}

func watch(ctx context.Context, d func()) error {
	ear, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer ear.Close()
	if err := ear.SetReadBuffer(socketBuffer); err != nil {
		return err
	}
	if err := ear.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ear.SetReadDeadline(time.Unix(1, 0)) })()
	d()
	ours := false
	for ctx.Err() == nil {
		msgs, err := ear.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			ours = false
			d()
		case err != nil:
			return err
		}
		for _, m := range msgs {
			ours = ours || concernsFilter(m)
			// A transaction ends with the number of the generation that it made.
			if ours && m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN {
				ours = false
				d()
			}
		}
	}
	return nil
}

// concernsFilter says whether a notice is about our table or something in it.
func concernsFilter(m netlink.Message) bool {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || m.Header.Type&0xff == unix.NFT_MSG_NEWGEN ||
		len(m.Data) < 4 || m.Data[0] != unix.NFPROTO_INET {
		return false
	}
	ad, err := netlink.NewAttributeDecoder(m.Data[4:])
	if err != nil {
		return false
	}
	for ad.Next() {
		// Number 1 is the table's name for all kinds of objects.
		if ad.Type() == unix.NFTA_TABLE_NAME {
			return ad.String() == firewall.Table
		}
	}
	return false
}
