package capture_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/pcapgo"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"komainu/drivers/capture"
	"komainu/drivers/netns"
	"komainu/drivers/netns/netnstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sender sends frames from the client's end of a link as they are.
type sender struct {
	t     *testing.T
	fd    int
	index int
}

func newSender(t *testing.T, town netnstest.Town) *sender {
	t.Helper()
	s := &sender{t: t}
	netnstest.Do(t, town.Client, func() error {
		ifi, err := net.InterfaceByName("lan")
		if err != nil {
			return err
		}
		s.index = ifi.Index
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

// send sends one of a kind that nobody else sends, n in its last two bytes.
func (s *sender) send(n, size int, tag ...byte) {
	s.t.Helper()
	b := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9}, tag...)
	b = append(b, 0x88, 0xb5) // IEEE 802, local experiments
	b = append(b, make([]byte, size-len(b)-2)...)
	b = append(b, byte(n>>8), byte(n))
	if err := unix.Sendto(s.fd, b, 0, &unix.SockaddrLinklayer{Ifindex: s.index}); err != nil {
		s.t.Fatal(err)
	}
}

func parse(t *testing.T, words string) capture.Filter {
	t.Helper()
	f, err := capture.Parse(strings.Fields(words))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// ours are the test's own frames and no others: the neighbours talk, too.
const ours = "not ip and not ip6 and not arp"

func options(t *testing.T, words string) capture.Options {
	return capture.Options{Link: "lan", Filter: parse(t, words), Packets: 1000, Bytes: 10 << 20, Time: time.Minute}
}

type ended struct {
	capture.Counts
	capture.End
	err error
}

// start captures on the box's end and returns when packets are seen: frames
// with number 0xffff are sent until the first one is written.
func start(ctx context.Context, t *testing.T, town netnstest.Town, o capture.Options, out capture.Output) chan ended {
	t.Helper()
	done := make(chan ended, 1)
	opened := make(chan struct{})
	ready := &firstWrite{Output: out, opened: opened}
	go func() {
		var e ended
		err := netns.Do(town.Box, func() (err error) {
			e.Counts, e.End, err = capture.Run(ctx, o, ready)
			return err
		})
		e.err = err
		done <- e
	}()
	select {
	case <-opened:
	case e := <-done:
		done <- e
	}
	return done
}

// firstWrite tells of the file's head, which is written when the socket stands.
type firstWrite struct {
	capture.Output
	opened chan struct{}
	told   bool
}

func (f *firstWrite) Write(b []byte) (int, error) {
	if !f.told {
		f.told = true
		close(f.opened)
	}
	return f.Output.Write(b)
}

func read(t *testing.T, b []byte) (r *pcapgo.NgReader, all [][]byte, infos []gopacket.CaptureInfo) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(b), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for {
		p, ci, err := r.ReadPacketData()
		if err != nil {
			return r, all, infos
		}
		all, infos = append(all, p), append(infos, ci)
	}
}

func TestHostReadBack(t *testing.T) {
	town := netnstest.New(t)
	s := newSender(t, town)
	var out bytes.Buffer
	o := options(t, ours)
	o.Packets, o.Comment = 7, "hinata-cho, lan"
	done := start(t.Context(), t, town, o, capture.Single{Writer: &out})
	began := time.Now()
	for n := range 5 {
		s.send(n, 60+n)
	}
	s.send(5, 100, 0x81, 0x00, 0x60, 110)                     // a tag that the kernel takes off
	s.send(6, 100, 0x88, 0xa8, 0, 200, 0x81, 0x00, 0x60, 110) // two
	e := <-done
	if e.err != nil || e.End != capture.ByPackets || e.Packets != 7 || e.Bytes != int64(out.Len()) || e.Dropped != 0 {
		t.Fatalf("%+v, %d bytes", e, out.Len())
	}
	r, all, infos := read(t, out.Bytes())
	if len(all) != 7 {
		t.Fatalf("%d packets", len(all))
	}
	for n, p := range all {
		if p[len(p)-1] != byte(n) || infos[n].Length != len(p) || infos[n].Timestamp.Before(began.Add(-time.Second)) || infos[n].Timestamp.After(time.Now()) {
			t.Errorf("%d: %+v %x", n, infos[n], p)
		}
	}
	if x := fmt.Sprintf("%x", all[5][12:18]); x != "8100606e88b5" || len(all[5]) != 100 {
		t.Errorf("tag: %s, %d bytes", x, len(all[5]))
	}
	if x := fmt.Sprintf("%x", all[6][12:22]); x != "88a800c88100606e88b5" || len(all[6]) != 100 {
		t.Errorf("tags: %s, %d bytes", x, len(all[6]))
	}
	ifi, err := r.Interface(0)
	if err != nil || ifi.Name != "lan" || ifi.Filter != o.Filter.String() || ifi.Statistics.PacketsReceived != 7 || ifi.Statistics.PacketsDropped != 0 || r.SectionInfo().Comment != o.Comment {
		t.Errorf("%+v %+v %v", ifi, r.SectionInfo(), err)
	}
	if tcpdump, err := exec.LookPath("tcpdump"); err == nil {
		name := filepath.Join(t.TempDir(), "a.pcapng")
		if err := os.WriteFile(name, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if text, err := exec.Command(tcpdump, "-enr", name).CombinedOutput(); err != nil || strings.Count(string(text), "02:00:00:00:00:09") != 7 || !strings.Contains(string(text), "vlan 110") {
			t.Errorf("tcpdump: %v\n%s", err, text)
		}
	}
}

// TestHostFilters: the kernel takes the programs, also where tags are metadata.
func TestHostFilters(t *testing.T) {
	town := netnstest.New(t)
	s := newSender(t, town)
	for words, want := range map[string]string{
		"vlan 110":                              "[1]",
		"vlan":                                  "[1 2]",
		ours + " and not vlan":                  "[0 3]",
		ours + " and not vlan 110":              "[0 2 3]",
		"(vlan 110 or vlan 200) and not port 1": "[1 2]",
	} {
		var out bytes.Buffer
		ctx, stop := context.WithCancel(t.Context())
		o := options(t, words)
		o.Packets = len(strings.Fields(want))
		done := start(ctx, t, town, o, capture.Single{Writer: &out})
		s.send(0, 60)
		s.send(1, 60, 0x81, 0x00, 0x60, 110)
		s.send(2, 60, 0x88, 0xa8, 0, 200, 0x81, 0x00, 0x60, 110)
		s.send(3, 60)
		e := <-done
		stop()
		_, all, _ := read(t, out.Bytes())
		var got []int
		for _, p := range all {
			got = append(got, int(p[len(p)-1]))
		}
		if e.err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v %+v, want %s", words, got, e, want)
		}
	}
}

func TestHostBounds(t *testing.T) {
	town := netnstest.New(t)
	s := newSender(t, town)

	var out bytes.Buffer
	o := options(t, ours)
	o.Bytes = capture.SizeLeast
	done := start(t.Context(), t, town, o, capture.Single{Writer: &out})
	for n := range 200 {
		s.send(n, 1000)
	}
	if e := <-done; e.err != nil || e.End != capture.ByBytes || out.Len() > capture.SizeLeast || out.Len() < capture.SizeLeast-1300 || e.Bytes != int64(out.Len()) {
		t.Errorf("%+v, %d bytes", e, out.Len())
	}
	if _, all, _ := read(t, out.Bytes()); len(all) < 60 {
		t.Errorf("%d packets", len(all))
	}

	out.Reset()
	o = options(t, ours)
	o.Time = time.Second
	told := 0
	o.Every = func(capture.Counts) { told++ }
	began := time.Now()
	if e := <-start(t.Context(), t, town, o, capture.Single{Writer: &out}); e.err != nil || e.End != capture.ByTime || time.Since(began) < time.Second || time.Since(began) > 30*time.Second {
		t.Errorf("%+v after %v", e, time.Since(began))
	}

	// ^C: what there is stands.
	out.Reset()
	ctx, stop := context.WithCancel(t.Context())
	done = start(ctx, t, town, options(t, ours), capture.Single{Writer: &out})
	stop()
	if e := <-done; e.err != nil || e.End != capture.Stopped {
		t.Errorf("%+v", e)
	}
	if r, _, _ := read(t, out.Bytes()); r.NInterfaces() != 1 {
		t.Error("no interface")
	}

	for _, o := range []capture.Options{{}, {Packets: 1, Bytes: 1 << 20, Time: 25 * time.Hour}, {Packets: 1, Bytes: 2 << 30, Time: time.Hour}, {Packets: 1e8, Bytes: 1 << 20, Time: time.Hour}} {
		if _, _, err := capture.Run(t.Context(), o, capture.Single{Writer: &out}); !errors.Is(err, capture.ErrBounds) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	o = options(t, "")
	o.Link = "none"
	if _, _, err := capture.Run(t.Context(), o, capture.Single{Writer: &out}); err == nil || !strings.Contains(err.Error(), "none") {
		t.Error(err)
	}
}

// stuck is a stick that takes nothing until it is released, then breaks if told so.
type stuck struct {
	capture.Output
	free chan struct{}
	n    int
}

func (s *stuck) Write(b []byte) (int, error) {
	if s.n++; s.n > 1 { // the head goes through
		<-s.free
	}
	return s.Output.Write(b)
}

// TestHostDrops: what the kernel had no room for is counted.
func TestHostDrops(t *testing.T) {
	town := netnstest.New(t)
	s := newSender(t, town)
	var out bytes.Buffer
	slow := &stuck{Output: capture.Single{Writer: &out}, free: make(chan struct{})}
	o := options(t, ours)
	o.Packets, o.Bytes = 1e6, 100<<20
	ctx, stop := context.WithCancel(t.Context())
	done := start(ctx, t, town, o, slow)
	const sent = 40000
	for n := range sent {
		s.send(n, 1000)
	}
	stop()
	close(slow.free)
	e := <-done
	r, all, _ := read(t, out.Bytes())
	ifi, err := r.Interface(0)
	if e.err != nil || err != nil || e.Dropped == 0 || ifi.Statistics.PacketsDropped != e.Dropped || e.Packets != uint64(len(all)) || e.Packets+e.Dropped > sent {
		t.Errorf("%+v, %d packets, %+v %v", e, len(all), ifi.Statistics, err)
	}
	t.Logf("%+v", e)
}

type broken struct{ n int }

func (b *broken) Write(p []byte) (int, error) {
	if b.n++; b.n > 1 {
		return 0, unix.EIO
	}
	return len(p), nil
}

func TestHostPulledOut(t *testing.T) {
	town := netnstest.New(t)
	s := newSender(t, town)
	done := start(t.Context(), t, town, options(t, ours), capture.Single{Writer: &broken{}})
	for n := range 20 {
		s.send(n, 1000)
	}
	if e := <-done; !errors.Is(e.err, unix.EIO) {
		t.Errorf("%+v", e)
	}
}

func TestHostRing(t *testing.T) {
	town := netnstest.New(t)
	s := newSender(t, town)
	dir := t.TempDir()
	ring, err := capture.NewRing(dir, "capture", 2*capture.RingFile)
	if err != nil {
		t.Fatal(err)
	}
	o := options(t, ours)
	o.Packets, o.Bytes = 40000, 2*capture.RingFile
	const size = 1400
	done := start(t.Context(), t, town, o, ring)
	var e ended
	for n, over := 0, false; !over; n++ { // what is dropped meanwhile is sent for
		select {
		case e = <-done:
			over = true
		default:
			s.send(n, size)
		}
	}
	if err := ring.Close(); err != nil {
		t.Error(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if e.err != nil || len(files) != 2 || len(ring.Names()) != 2 || filepath.Base(files[1]) <= "capture-0003" {
		t.Fatalf("%+v %v %v", e, files, ring.Names())
	}
	next := -1
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil || len(b) > capture.RingFile {
			t.Errorf("%s: %d bytes %v", name, len(b), err)
		}
		_, all, _ := read(t, b)
		for _, p := range all {
			n := int(p[len(p)-2])<<8 | int(p[len(p)-1])
			if next >= 0 && n != next && e.Dropped == 0 {
				t.Fatalf("%s: %d, want %d", name, n, next)
			}
			next = (n + 1) & 0xffff
		}
	}
	if e.End != capture.ByPackets || e.Packets != uint64(o.Packets) || e.Dropped == 0 && next != o.Packets {
		t.Errorf("%+v, the last is %d", e, next-1)
	}
	if _, err := capture.NewRing(dir, "x", capture.RingFile); !errors.Is(err, capture.ErrBounds) {
		t.Error(err)
	}
}

func TestHostOwnConnections(t *testing.T) {
	town := netnstest.New(t)
	at := netip.AddrPortFrom(netnstest.BoxLAN[0], 2222)
	netnstest.Serve(t, town.Box, "box", at)
	c := netnstest.MustDial(t, town.Client, at, "box "+netnstest.ClientAddr[0].String())
	local := c.LocalAddr().(*net.TCPAddr).AddrPort()
	own, err := capture.Own(func(name string) string {
		return map[string]string{"SSH_CONNECTION": "fd00:9::1 50000 fd00:9::2 22"}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	found, ssh := false, false
	for _, o := range own {
		found = found || o.Local == local && o.Remote == at
		ssh = ssh || o.Remote.String() == "[fd00:9::1]:50000" && o.Local.String() == "[fd00:9::2]:22"
	}
	if !found || !ssh {
		t.Fatalf("%v has not %s", own, local)
	}
	var out bytes.Buffer
	o := options(t, "tcp or not ip and not ip6 and not arp")
	o.Filter = o.Filter.Without(own)
	o.Packets = 1
	done := start(t.Context(), t, town, o, capture.Single{Writer: &out})
	if err := c.Echo(netnstest.Patience); err != nil {
		t.Error(err)
	}
	newSender(t, town).send(7, 60)
	e := <-done
	if _, all, _ := read(t, out.Bytes()); e.err != nil || len(all) != 1 || all[0][12] != 0x88 {
		t.Errorf("%+v %x", e, all)
	}
}
