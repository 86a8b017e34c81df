// Package nft makes nftables look like values: of netstack/steer the table of
// steered services and the gates of databases, of netstack/firewall the filter.
// It decides nothing, touches only its own tables (inet komainu_steer, inet
// komainu_gate, inet komainu_filter), and changes each of them in one netlink
// transaction, so no packet sees a half-made state. Start reading at Apply
// (elements.go) and Filter.Apply (filter.go); the rules stand in layout.go,
// gate.go, filterrules.go and filtermatch.go.
//
// Bits of the connection mark:
//
//	0..7    service, steer.ServiceMask; 0: not steered
//	8..23   epoch, steer.EpochMask
//	24..31  not ours, 0 on a connection that is steered or passes a gate
//
// On a town-hall box clients pass steering before the gate: the gate then
// leaves the mark alone and compares its own epoch with steering's, so a
// database's gate must be opened with the epoch of the steering entries that
// lead to it. On a database host nothing is steered, and the gate writes its
// epoch into the same bits.
//
// Bits of the packet mark: ParkMark, HairpinMark. All others are left alone.
//
// Priorities: raw (-300) refuses and parks, mangle (-150) marks connections,
// dstnat (-100) translates, filter (0) holds guard and gates, srcnat (100)
// turns hairpins. The box must forward (sysctl) and its own filter must let
// steered and parked packets through.
package nft

import (
	"errors"
	"fmt"
	"sync"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Bits of the packet mark (meta mark) that this package sets.
const (
	ParkMark    uint32 = 0x01000000 // a first SYN that has to wait; drivers/park routes it to its queue
	HairpinMark uint32 = 0x02000000 // client and server lie behind the same link: the source is masqueraded
)

// socketBuffer is enough for the acknowledgements of a full table of 65,536
// addresses; with the default one the kernel answers EMSGSIZE or ENOBUFS.
const socketBuffer = 8 << 20

// chunk is the number of elements in one message; longer lists overflow the
// 16-bit length of a netlink attribute and give a misleading ENOENT.
const chunk = 1000

// Steering is the one writer of our tables, over one lasting netlink socket in
// the network namespace in which it was opened. Its methods may be called from
// several goroutines.
type Steering struct {
	mu   sync.Mutex
	conn *nftables.Conn
}

// Open connects to nftables. Needs CAP_NET_ADMIN; changes nothing.
func Open() (*Steering, error) {
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	return &Steering{conn: conn}, nil
}

func dial() (*nftables.Conn, error) {
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetReadBuffer(socketBuffer), c.SetWriteBuffer(socketBuffer))
	}))
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket to nftables: %w", err)
	}
	return conn, nil
}

// Close closes the socket. The kernel goes on steering as it did.
func (s *Steering) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn.CloseLasting()
}

// flush sends what was prepared as one transaction.
func (s *Steering) flush() error { return flush(&s.conn) }

// flush sends what was prepared as one transaction. After an error the socket
// may still hold acknowledgements of this batch, so it is replaced.
func flush(conn **nftables.Conn) error {
	err := (*conn).Flush()
	if err == nil {
		return nil
	}
	(*conn).CloseLasting()
	fresh, dialed := dial()
	if dialed != nil {
		return errors.Join(err, dialed)
	}
	*conn = fresh
	return err
}

// lost says that err leaves open whether the transaction was done.
func lost(err error) bool { return errors.Is(err, unix.ENOBUFS) }

// chains lists the names of a table's chains; none if there is no such table.
func (s *Steering) chains(t *nftables.Table) ([]string, error) {
	all, err := s.conn.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return nil, fmt.Errorf("list the chains of table %s: %w", t.Name, err)
	}
	var names []string
	for _, c := range all {
		if c.Table.Name == t.Name {
			names = append(names, c.Name)
		}
	}
	return names, nil
}
