package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"

	"komainu/netstack/steer"
)

// ErrTable is wrapped when a table can't be put into the kernel's maps.
var ErrTable = errors.New("not a table that can be steered")

// content is what the maps hold: set name, key, value, as the kernel has them.
type content map[string]map[string]string

func (c content) put(set string, key, val []byte) error {
	m := c[set]
	if m == nil {
		m = map[string]string{}
		c[set] = m
	}
	if old, ok := m[string(key)]; ok && old != string(val) {
		return fmt.Errorf("%w: two entries for one address and port", ErrTable)
	}
	m[string(key)] = string(val)
	return nil
}

// Apply makes the kernel steer like t, in one transaction, and returns the
// number of elements that were added or removed: 0 if nothing was to be done.
// Peers are the addresses that may reach local endpoints directly, as
// replication does; everybody else is refused there unless steered. Only new
// connections follow the change: the caller then removes the old flows
// (drivers/conntrack) and wakes their clients (drivers/kick).
//
// While an entry is Parked its UDP datagrams are dropped, and a Direct address
// leads to Locked as in every mode but Local.
func (s *Steering) Apply(t steer.Table, peers ...netip.Addr) (changed int, err error) {
	want, err := desired(t, peers)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	changed, err = s.change(want)
	if lost(err) {
		// The acknowledgement was lost, not the order: look, and do what is left.
		_, err = s.change(want)
	}
	if err != nil {
		return 0, fmt.Errorf("steer %d entries in nftables table komainu_steer: %w", len(t.Entries), err)
	}
	return changed, nil
}

// change does one transaction from what is there to want.
func (s *Steering) change(want content) (int, error) {
	have, err := s.content()
	if err != nil {
		return 0, err
	}
	if have == nil {
		if err := layout(s.conn); err != nil {
			return 0, err
		}
	}
	changed := 0
	for _, f := range families() {
		for _, set := range mapsOf(steerTable(), f).all() {
			add, remove := diff(have[set.Name], want[set.Name])
			changed += len(add) + len(remove)
			// A changed value is a removal and an addition: the kernel refuses,
			// or on 6.1 ignores, an addition to a key that is there.
			for part := range slices.Chunk(remove, chunk) {
				if err := s.conn.SetDeleteElements(set, part); err != nil {
					return 0, err
				}
			}
			for part := range slices.Chunk(add, chunk) {
				if err := s.conn.SetAddElements(set, part); err != nil {
					return 0, err
				}
			}
		}
	}
	return changed, s.flush()
}

func diff(have, want map[string]string) (add, remove []nftables.SetElement) {
	for k, v := range have {
		if w, ok := want[k]; !ok || w != v {
			remove = append(remove, nftables.SetElement{Key: []byte(k)})
		}
	}
	for k, v := range want {
		if h, ok := have[k]; !ok || h != v {
			add = append(add, nftables.SetElement{Key: []byte(k), Val: []byte(v)})
		}
	}
	return add, remove
}

// content reads the maps back; nil if the table isn't there or is another
// version's.
func (s *Steering) content() (content, error) {
	t := steerTable()
	if chains, err := s.chains(t); err != nil || !slices.Contains(chains, layoutChain) {
		return nil, err
	}
	c := content{}
	for _, f := range families() {
		for _, set := range mapsOf(t, f).all() {
			elements, err := s.conn.GetSetElements(set)
			if err != nil {
				return nil, fmt.Errorf("read map %s of table komainu_steer: %w", set.Name, err)
			}
			for _, e := range elements {
				if err := c.put(set.Name, e.Key, e.Val); err != nil {
					return nil, err
				}
			}
		}
	}
	return c, nil
}

// desired turns a table into the content of the maps.
func desired(t steer.Table, peers []netip.Addr) (content, error) {
	c := content{}
	for _, p := range peers {
		p = p.Unmap()
		if err := c.put("peers"+suffix(p), p.AsSlice(), nil); err != nil {
			return nil, err
		}
	}
	for _, e := range t.Entries {
		if err := c.entry(e); err != nil {
			return nil, fmt.Errorf("service %s at %s: %w", e.Name, e.Stable, err)
		}
	}
	return c, nil
}

func (c content) entry(e steer.Entry) error {
	if e.Mark == 0 {
		return fmt.Errorf("%w: its mark is 0, which means not steered", ErrTable)
	}
	stable, err := key(e.Protocol, e.Stable)
	if err != nil {
		return err
	}
	sfx := suffix(e.Stable.Addr())
	for _, to := range []netip.AddrPort{e.DC, e.Local, e.Locked, e.Direct} {
		if to.IsValid() && suffix(to.Addr()) != sfx {
			return fmt.Errorf("%w: %s is of another address family", ErrTable, to)
		}
	}
	mark := binaryutil.NativeEndian.PutUint32(e.ConnMark())
	errs := []error{c.put("mark"+sfx, stable, mark)}
	switch e.Target {
	case steer.None:
		errs = append(errs, c.put("fate"+sfx, stable, native(refused)))
	case steer.Parked:
		errs = append(errs, c.put("fate"+sfx, stable, native(parked)))
	case steer.DC:
		errs = append(errs, c.lead(sfx, stable, e.DC))
	case steer.Local:
		errs = append(errs, c.lead(sfx, stable, e.Local))
	}
	if e.Local.IsValid() {
		raw, err := key(e.Protocol, e.Local)
		errs = append(errs, err, c.put("raw"+sfx, raw, nil))
	}
	if e.Direct.IsValid() {
		direct, err := key(e.Protocol, e.Direct)
		errs = append(errs, err, c.put("mark"+sfx, direct, mark))
		switch {
		case e.Target == steer.Local:
			errs = append(errs, c.lead(sfx, direct, e.Local))
		case e.Locked.IsValid():
			errs = append(errs, c.lead(sfx, direct, e.Locked))
		default:
			errs = append(errs, c.put("fate"+sfx, direct, native(refused)))
		}
	}
	return errors.Join(errs...)
}

// lead sends the connections of key to an endpoint.
func (c content) lead(sfx string, key []byte, to netip.AddrPort) error {
	if !to.IsValid() {
		return fmt.Errorf("%w: its target has no endpoint", ErrTable)
	}
	val := append(to.Addr().Unmap().AsSlice(), byte(to.Port()>>8), byte(to.Port()), 0, 0)
	return c.put("dnat"+sfx, key, val)
}

// key is daddr . l4proto . dport, each padded to 4 bytes.
func key(protocol string, a netip.AddrPort) ([]byte, error) {
	var p byte
	switch protocol {
	case "tcp":
		p = unix.IPPROTO_TCP
	case "udp":
		p = unix.IPPROTO_UDP
	default:
		return nil, fmt.Errorf("%w: protocol %q is neither tcp nor udp", ErrTable, protocol)
	}
	if !a.IsValid() || a.Port() == 0 {
		return nil, fmt.Errorf("%w: no address or port", ErrTable)
	}
	return append(a.Addr().Unmap().AsSlice(), p, 0, 0, 0, byte(a.Port()>>8), byte(a.Port()), 0, 0), nil
}

func suffix(a netip.Addr) string {
	if a.Unmap().Is4() {
		return "4"
	}
	return "6"
}

// Observe returns the entries of t as the kernel has them now: same services,
// actual Target and Epoch. Entries that the kernel doesn't hold, or leads to an
// endpoint that isn't theirs, are left out.
func (s *Steering) Observe(t steer.Table) (steer.Table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, err := s.content()
	if err != nil {
		return steer.Table{}, fmt.Errorf("observe steering: %w", err)
	}
	var seen steer.Table
	for _, e := range t.Entries {
		k, err := key(e.Protocol, e.Stable)
		if err != nil {
			return steer.Table{}, fmt.Errorf("observe service %s: %w", e.Name, err)
		}
		sfx := suffix(e.Stable.Addr())
		mark, ok := have["mark"+sfx][string(k)]
		if !ok {
			continue
		}
		m := binaryutil.NativeEndian.Uint32([]byte(mark))
		if m&steer.ServiceMask != uint32(e.Mark) {
			continue
		}
		e.Epoch = uint16(m & steer.EpochMask >> 8)
		if e.Target, ok = have.target(sfx, string(k), e.Service); ok {
			seen.Entries = append(seen.Entries, e)
		}
	}
	return seen, nil
}

func (c content) target(sfx, key string, s steer.Service) (steer.Target, bool) {
	if fate, ok := c["fate"+sfx][key]; ok {
		if fate == string(native(parked)) {
			return steer.Parked, true
		}
		return steer.None, true
	}
	val := []byte(c["dnat"+sfx][key])
	if len(val) < 8 {
		return steer.None, false
	}
	a, _ := netip.AddrFromSlice(val[:len(val)-4])
	switch to := netip.AddrPortFrom(a, uint16(val[len(val)-4])<<8|uint16(val[len(val)-3])); to {
	case s.DC:
		return steer.DC, true
	case s.Local:
		return steer.Local, true
	}
	return steer.None, false
}
