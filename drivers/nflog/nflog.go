// Package nflog hears what nftables logs to a group of nfnetlink_log, and reads
// the headers of the packets (kernel: include/uapi/linux/netfilter/
// nfnetlink_log.h). It decides nothing and changes no rule. Start reading at
// Run; the headers are read in header.go.
package nflog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Refusal is one packet that a rule logged.
type Refusal struct {
	At               time.Time // when the packet came in, by the box's clock; else when it was read
	Rule             string    // prefix of the log line: the rule's name
	In, Out          int       // index of the links; 0: none
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16 // TCP, UDP; 0 in later fragments
	Proto            uint8  // IANA's protocol number, behind IPv6 extension headers
	ICMPType         uint8  // Proto 1 or 58
	Lost             uint64 // how often, since Run began, lines were lost because f took long
}

// Numbers of nfnetlink_log that x/sys doesn't have.
const (
	msgPacket = 0 // NFULNL_MSG_PACKET
	msgConfig = 1 // NFULNL_MSG_CONFIG

	cfgCommand   = 1 // NFULA_CFG_CMD
	cfgMode      = 2 // NFULA_CFG_MODE
	cfgThreshold = 5 // NFULA_CFG_QTHRESH
	commandBind  = 1 // NFULNL_CFG_CMD_BIND
	copyPacket   = 2 // NFULNL_COPY_PACKET

	attrTimestamp = 3  // NFULA_TIMESTAMP
	attrIn        = 4  // NFULA_IFINDEX_INDEV
	attrOut       = 5  // NFULA_IFINDEX_OUTDEV
	attrPayload   = 9  // NFULA_PAYLOAD
	attrPrefix    = 10 // NFULA_PREFIX
)

// copied is how many bytes of a packet are read: both headers with options.
const copied = 128

// socketBuffer holds some thousand lines while f is busy.
const socketBuffer = 1 << 20

// headerLen is the length of struct nfgenmsg: family, version, resource id.
const headerLen = 4

// Run binds a group of the network namespace of the calling thread and calls f
// with every packet that is logged to it, without overlap from its own
// goroutine, until ctx ends; it returns nil then. A group has one listener: if
// somebody else has it, the error wraps EPERM, as without CAP_NET_ADMIN.
func Run(ctx context.Context, group uint16, f func(Refusal)) error {
	return run(ctx, group, func() {}, f)
}

func run(ctx context.Context, group uint16, bound func(), f func(Refusal)) error {
	conn, err := bind(group)
	if err != nil {
		return fmt.Errorf("listen to group %d of nfnetlink_log (it has one listener; module nfnetlink_log): %w", group, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	bound()
	var lost uint64
	for ctx.Err() == nil {
		msgs, err := conn.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			lost++
		case err != nil:
			return fmt.Errorf("read group %d of nfnetlink_log: %w", group, err)
		}
		for _, m := range msgs {
			if m.Header.Type != unix.NFNL_SUBSYS_ULOG<<8|msgPacket || len(m.Data) < headerLen {
				continue
			}
			r, ok := decode(m.Data[headerLen:], time.Now)
			if ok {
				r.Lost = lost
				f(r)
			}
		}
	}
	return nil
}

func bind(group uint16) (_ *netlink.Conn, err error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	if err := conn.SetReadBuffer(socketBuffer); err != nil {
		return nil, err
	}
	mode := binary.BigEndian.AppendUint32(nil, copied)
	for _, a := range []netlink.Attribute{
		{Type: cfgCommand, Data: []byte{commandBind}},
		{Type: cfgMode, Data: append(mode, copyPacket, 0)},
		{Type: cfgThreshold, Data: binary.BigEndian.AppendUint32(nil, 1)}, // every line at once, not a hundred together
	} {
		data, err := netlink.MarshalAttributes([]netlink.Attribute{a})
		if err != nil {
			return nil, err
		}
		header := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, 0}, group)
		if _, err := conn.Execute(netlink.Message{
			Header: netlink.Header{Type: unix.NFNL_SUBSYS_ULOG<<8 | msgConfig, Flags: netlink.Request | netlink.Acknowledge},
			Data:   append(header, data...),
		}); err != nil {
			return nil, err
		}
	}
	return conn, nil
}

// decode reads the attributes of a message; not ok: it isn't one of a packet.
func decode(b []byte, now func() time.Time) (Refusal, bool) {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return Refusal{}, false
	}
	ad.ByteOrder = binary.BigEndian
	var r Refusal
	ok := false
	for ad.Next() {
		v := ad.Bytes()
		switch ad.Type() {
		case attrTimestamp:
			if len(v) >= 16 {
				//nolint:gosec // a nonsense time is still a time
				r.At = time.Unix(int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:]))*1000)
			}
		case attrIn:
			r.In = index(v)
		case attrOut:
			r.Out = index(v)
		case attrPrefix:
			r.Rule, _, _ = strings.Cut(string(v), "\x00")
		case attrPayload:
			ok = r.header(v)
		}
	}
	if r.At.IsZero() {
		r.At = now()
	}
	return r, ok && ad.Err() == nil
}

func index(b []byte) int {
	if len(b) < 4 {
		return 0
	}
	return int(int32(binary.BigEndian.Uint32(b))) //nolint:gosec // as the kernel's int
}
