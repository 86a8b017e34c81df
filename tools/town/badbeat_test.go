package town

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	settings "komainu/appliance/config"
	"komainu/appliance/control"
	"komainu/failover/detect"
	"komainu/tools/lab"
)

// badHeartbeats sends to the DC's edge box, over the real main line and from
// the town hall's own address, what is no heartbeat of the town hall: forged,
// recorded, and of a box that holds the key but isn't the peer.
func badHeartbeats(t *testing.T, ctx context.Context, w *World) {
	key, err := os.ReadFile(filepath.Join(w.Hall.StateDir(), "secrets", "heartbeat"))
	must(t, err)
	key = bytes.TrimSpace(key)
	genuine := record(t, w)
	m, err := detect.Parse(genuine, key)
	must(t, err)

	before := map[*lab.Host]control.Status{}
	for _, h := range []*lab.Host{w.Hall, w.Edge, w.DB} {
		before[h], err = w.Status(ctx, h)
		must(t, err)
	}
	from := time.Now()

	evil := m // what would hurt most if it were believed
	evil.State, evil.Seq = detect.AdminDown, m.Seq+1000
	evil.Groups = append([]detect.GroupState(nil), m.Groups...)
	for i := range evil.Groups {
		evil.Groups[i].Term += 10
		evil.Groups[i].Owner = detect.Hall
	}
	forged, err := detect.Append(nil, &evil, bytes.Repeat([]byte("k"), 32))
	must(t, err)
	evil.From = "other-town"
	stranger, err := detect.Append(nil, &evil, key)
	must(t, err)
	reborn := evil // somebody with the key plays a start of the peer that can't prove itself
	reborn.From, reborn.Boot, reborn.EchoSeq = m.From, m.Boot+1, 0
	unproven, err := detect.Append(nil, &reborn, key)
	must(t, err)

	const each = 20
	for range each {
		inject(t, w, lab.MainHall4, forged)
		inject(t, w, lab.MainHall4, genuine)
		inject(t, w, lab.MainHall4, stranger)
		inject(t, w, lab.MainHall4, unproven)
		inject(t, w, "10.20.7.3", genuine) // nobody's address
		inject(t, w, lab.MainHall4, genuine[:60])
	}
	eventually(t, ctx, func() error {
		st, err := w.Status(ctx, w.Edge)
		if err != nil {
			return err
		}
		// Forged and cut short ones are counted at the socket, those from elsewhere
		// by the firewall before it.
		if n := refused(st) - refused(before[w.Edge]); n < 2*each {
			return fmt.Errorf("%d heartbeats were refused, want %d", n, 2*each)
		}
		var net control.Network
		if err := w.Agent(w.Edge).Get(ctx, control.NetworkPath, &net); err != nil {
			return err
		}
		for _, r := range net.Refused {
			if r.Rule == "input main" && r.Packets >= each {
				return nil
			}
		}
		return fmt.Errorf("the firewall refused %v, want %d by input main", net.Refused, each)
	})
	// Real heartbeats went on meanwhile; ten more intervals for a late effect.
	must(t, pause(ctx, time.Second))
	for _, e := range w.Events.All() {
		if !e.At().Before(from) && (e.Code == "path-down" || e.Code == "path-admin-down" || e.Code == "fenced" || e.Code == "dc-fenced") {
			t.Errorf("%s: %s %s %v", e.Host, e.Subject, e.Code, e.Args)
		}
	}
	for h, was := range before {
		st, err := w.Status(ctx, h)
		must(t, err)
		for i, g := range st.Groups {
			if b := was.Groups[i]; g.Term != b.Term || g.Owner != b.Owner || g.Mode != b.Mode || g.Step != b.Step {
				t.Errorf("%s: group %+v, before %+v", h.Name, g, b)
			}
		}
		for _, p := range st.Paths {
			if p.State != "up" {
				t.Errorf("%s: path %s is %s", h.Name, p.Name, p.State)
			}
		}
	}
}

func refused(st control.Status) uint64 {
	for _, p := range st.Paths {
		if p.Name == "main" {
			return p.Refused
		}
	}
	return 0
}

// record takes one heartbeat of the town hall off the line.
func record(t *testing.T, w *World) []byte {
	t.Helper()
	var fd int
	must(t, w.Edge.Do(func() error {
		link, err := net.InterfaceByName("main")
		if err != nil {
			return err
		}
		proto := uint16(unix.ETH_P_IP<<8&0xff00 | unix.ETH_P_IP>>8) // network order
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(proto)); err != nil {
			return err
		}
		return errors.Join(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: link.Index}),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	}))
	defer unix.Close(fd)
	buf := make([]byte, 2048)
	for {
		n, err := unix.Read(fd, buf)
		must(t, err) // also when none comes for five seconds
		p := gopacket.NewPacket(buf[:n], layers.LayerTypeIPv4, gopacket.Default)
		ip, _ := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		udp, _ := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if ip != nil && udp != nil && ip.SrcIP.String() == lab.MainHall4 && udp.DstPort == beatPort {
			return bytes.Clone(udp.Payload)
		}
	}
}

// beatPort is where heartbeats go in a town, whose files leave the default.
const beatPort = settings.HeartbeatPort

// inject sends a datagram over the main line as if the source had.
func inject(t *testing.T, w *World, source string, payload []byte) {
	t.Helper()
	src, dst := netip.MustParseAddr(source), netip.MustParseAddr(lab.MainEdge4)
	ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	udp := &layers.UDP{SrcPort: beatPort, DstPort: beatPort}
	must(t, udp.SetNetworkLayerForChecksum(ip))
	b := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, udp, gopacket.Payload(payload)))
	must(t, w.Hall.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, b.Bytes(), 0, &unix.SockaddrInet4{Addr: dst.As4()})
	}))
}
