package lab

import (
	"context"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"komainu/drivers/netns"
)

// Of <linux/xfrm.h>, which golang.org/x/sys doesn't have.
const (
	xfrmFlushSA = 0x1c // XFRM_MSG_FLUSHSA
	protoAny    = 255  // IPSEC_PROTO_ANY
)

// FlushXFRM deletes all security associations of a host, as `ip xfrm state
// flush` does by hand.
func (h *Host) FlushXFRM() error {
	err := netns.Do(h.Namespace, func() error {
		c, err := netlink.Dial(unix.NETLINK_XFRM, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Execute(netlink.Message{Header: netlink.Header{Type: xfrmFlushSA, Flags: netlink.Request | netlink.Acknowledge}, Data: []byte{protoAny, 0, 0, 0}})
		return err
	})
	if err != nil {
		return fmt.Errorf("delete the security associations of %s: %w", h.Name, err)
	}
	return nil
}

func (t *Town) flushXFRM(_ context.Context, s Step) error {
	h, err := t.Host(s.Args[2])
	if err != nil {
		return err
	}
	return h.FlushXFRM()
}
