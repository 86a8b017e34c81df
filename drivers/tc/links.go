package tc

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Links are those that have queues of ours.
func (c *Conn) Links() ([]string, error) {
	var found []int
	if err := c.wire.dump(unix.RTM_GETQDISC, head(0, 0, 0), func(b []byte) {
		if q, ok := read(b); ok && q.parent == handleRoot && q.handle == handle(0) {
			found = append(found, int(q.index))
		}
	}); err != nil {
		return nil, fmt.Errorf("read the qdiscs: %w", err)
	}
	var out []string
	for _, index := range found {
		if i, err := net.InterfaceByIndex(index); err == nil { // gone meanwhile
			out = append(out, i.Name)
		}
	}
	return out, nil
}
