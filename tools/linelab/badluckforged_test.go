package linelab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	settings "komainu/appliance/config"
	"komainu/appliance/control"
	"komainu/drivers/vici"
	"komainu/failover/detect"
	"komainu/tools/lab"
)

// TestHostBadLuckForged: a stranger on the line, with the hall's own address or
// another, sends what it recorded and what it made up, to IKE, into the tunnel's
// ESP, and somebody inside sends heartbeats. The paths stay up, and no packet of
// anybody is lost.
func TestHostBadLuckForged(t *testing.T) {
	stockOnly(t)
	w := start(t, Options{})
	ctx := t.Context()
	line := w.Halls[0].hall.Lines[0]
	tape := record(w.Main)
	charon := vici.Client{Socket: filepath.Join(w.Hall.RunDir(), "charon.vici"), Within: 20 * time.Second}
	defer charon.Close()
	must(t, charon.Rekey(ctx, "closed-main", true)) // for IKE that is genuine
	must(t, Until(ctx, 20*time.Second, "IKE and ESP on the line", func() error { return tape.enough(20) }))
	w.Main.Watch(nil)
	must(t, Until(ctx, 20*time.Second, "new keys", func() error { return tunnelIs(ctx, w, w.Hall, "closed-main", "up", "") }))

	quiet := func(t *testing.T, evil func()) {
		t.Helper()
		f, err := NewFlow(ctx, w.Clients[0], app, 20*time.Millisecond, 200)
		must(t, err)
		from := time.Now()
		evil()
		must(t, Until(ctx, 20*time.Second, "a packet afterwards", func() error { return passed(f, time.Now().Add(-time.Second)) }))
		if r := f.Stop(from, 5*time.Second); r.Lost > 0 {
			t.Errorf("%d of %d packets lost", r.Lost, r.Sent)
		}
		for _, b := range []*lab.Host{w.Hall, w.Edge} {
			for _, code := range []string{"path-down", "path-admin-down", "tunnel-down", "tunnel-dead", "tunnel-emptied"} {
				if n := count(t, b, from, code); n > 0 {
					t.Errorf("%s: %d times %s", b.Name, n, code)
				}
			}
		}
	}
	own, stranger := netip.MustParseAddr(lab.MainHall4), netip.MustParseAddr("10.20.7.3")
	t.Run("IKE", func(t *testing.T) {
		quiet(t, func() {
			for _, p := range tape.of(ike) {
				for _, from := range []netip.Addr{own, stranger} {
					send(t, w.Hall, p, from) // again
					forged := slices.Clone(p)
					const messageID, first = 20 + 8 + 20, 20 + 8 + 28 // IPv4, UDP, RFC 7296, 3.1
					binary.BigEndian.PutUint32(forged[messageID:], binary.BigEndian.Uint32(forged[messageID:])+1)
					for i := first; i < len(forged); i++ {
						forged[i] ^= byte(i)
					}
					send(t, w.Hall, forged, from)
					copy(forged[28:44], bytes.Repeat([]byte{7}, 16)) // nobody's SPIs
					send(t, w.Hall, forged, from)
					send(t, w.Hall, forged[:40], from)
				}
			}
		})
	})
	t.Run("ESP", func(t *testing.T) {
		before := xfrmErrors(t, w.Edge)
		quiet(t, func() {
			for _, p := range tape.of(esp) {
				for _, from := range []netip.Addr{own, stranger} {
					send(t, w.Hall, p, from) // again: its number has been
					forged := slices.Clone(p)
					const number = 20 + 4 // IPv4, RFC 4303, 2
					binary.BigEndian.PutUint32(forged[number:], binary.BigEndian.Uint32(forged[number:])+100_000)
					send(t, w.Hall, forged, from) // would move the window
					copy(forged[20:24], []byte{1, 2, 3, 4})
					send(t, w.Hall, forged, from) // nobody's SPI
				}
			}
		})
		// Each kind came as far as the kernel that refused it.
		after := xfrmErrors(t, w.Edge)
		for _, kind := range []string{"XfrmInStateSeqError", "XfrmInStateProtoError", "XfrmInNoStates"} {
			if after[kind] == before[kind] {
				t.Errorf("%s: %d as before", kind, after[kind])
			}
		}
	})
	t.Run("heartbeats inside", func(t *testing.T) {
		key, err := os.ReadFile(filepath.Join(w.Hall.StateDir(), "secrets", "heartbeat"))
		must(t, err)
		key = bytes.TrimSpace(key)
		var v control.VPN
		must(t, w.Agent(w.Hall).Get(ctx, control.VPNPath, &v))
		i := slices.IndexFunc(v.Tunnels, func(x control.Tunnel) bool { return x.Name == "closed-main" })
		genuine := recorded(t, w.Hall, v.Tunnels[i].Link)
		m, err := detect.Parse(genuine, key)
		must(t, err)
		m.State, m.Seq = detect.AdminDown, m.Seq+1000 // the path would be given up
		forged, err := detect.Append(nil, &m, bytes.Repeat([]byte("k"), 32))
		must(t, err)
		m.From = "other-town" // it has the key, but isn't the peer
		other, err := detect.Append(nil, &m, key)
		must(t, err)
		refused := func() uint64 {
			st, err := w.Status(ctx, w.Edge)
			must(t, err)
			for _, p := range st.Paths {
				if p.Name == line.Tunnel {
					return p.Refused
				}
			}
			return 0
		}
		before := refused()
		const each = 20
		quiet(t, func() {
			from, to := netip.MustParseAddr(line.InHall), netip.MustParseAddr(line.InEdge)
			for range each {
				for _, payload := range [][]byte{genuine, forged, other, genuine[:60]} {
					send(t, w.Hall, beat(t, from, to, payload), from)
				}
			}
			must(t, Until(ctx, 20*time.Second, "what was forged is counted", func() error {
				if n := refused() - before; n < 2*each {
					return fmt.Errorf("%d, want %d or more", n, 2*each)
				}
				return nil
			}))
		})
		must(t, w.PathUp(ctx, w.Edge, line.Tunnel))
	})
}

// xfrmErrors are the counters of what a host's kernel refused (kernel:
// Documentation/networking/xfrm_proc.rst).
func xfrmErrors(t *testing.T, h *lab.Host) map[string]int {
	t.Helper()
	out := map[string]int{}
	must(t, h.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/xfrm_stat")
		for line := range strings.Lines(string(text)) {
			var name string
			var n int
			if _, err := fmt.Sscan(line, &name, &n); err == nil {
				out[name] = n
			}
		}
		return err
	}))
	return out
}

// tape is what a hall put on a line, some of each kind.
type tape struct {
	mu   sync.Mutex
	kept map[kind][][]byte
}

const tapeMost = 40 // of each kind

func record(l *lab.Line) *tape {
	r := &tape{kept: map[kind][][]byte{}}
	l.Watch(func(d lab.Direction, p []byte) {
		k, _ := sort(p)
		r.mu.Lock()
		defer r.mu.Unlock()
		if d == lab.HallToDC && p[0]>>4 == 4 && len(r.kept[k]) < tapeMost {
			r.kept[k] = append(r.kept[k], slices.Clone(p))
		}
	})
	return r
}

func (r *tape) of(k kind) [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kept[k]
}

func (r *tape) enough(packets int) error {
	if n, m := len(r.of(ike)), len(r.of(esp)); n < 2 || m < packets {
		return fmt.Errorf("%d of IKE, %d of ESP", n, m)
	}
	return nil
}

// send puts an IPv4 packet on its way from a host, whatever its source address.
func send(t *testing.T, h *lab.Host, p []byte, from netip.Addr) {
	t.Helper()
	p = slices.Clone(p)
	copy(p[12:16], from.AsSlice())
	to := netip.AddrFrom4([4]byte(p[16:20]))
	must(t, h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: to.As4()})
	}))
}

// beat is a heartbeat's datagram.
func beat(t *testing.T, from, to netip.Addr, payload []byte) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
	udp := &layers.UDP{SrcPort: settings.HeartbeatPort, DstPort: settings.HeartbeatPort}
	must(t, udp.SetNetworkLayerForChecksum(ip))
	b := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, udp, gopacket.Payload(payload)))
	return b.Bytes()
}

// recorded is a heartbeat that a host sends through a link.
func recorded(t *testing.T, h *lab.Host, name string) []byte {
	t.Helper()
	var fd int
	must(t, h.Do(func() error {
		link, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		proto := uint16(unix.ETH_P_ALL << 8) // network order
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(proto)); err != nil {
			return err
		}
		return errors.Join(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: link.Index}),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	}))
	defer unix.Close(fd)
	buf := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		must(t, err) // also when none comes for five seconds
		if l, ok := from.(*unix.SockaddrLinklayer); !ok || l.Pkttype != unix.PACKET_OUTGOING {
			continue
		}
		p := gopacket.NewPacket(buf[:n], layers.LayerTypeIPv4, gopacket.Default)
		if udp, _ := p.Layer(layers.LayerTypeUDP).(*layers.UDP); udp != nil && udp.DstPort == settings.HeartbeatPort {
			return bytes.Clone(udp.Payload)
		}
	}
}
