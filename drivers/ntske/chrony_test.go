package ntske

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"komainu/drivers/netns"
	"komainu/drivers/netns/netnstest"
	"komainu/ntp/nts"
	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

// namespace is a new one with a loopback, for chronyd and us.
func namespace(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, program := range []string{"chronyd", "chronyc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs chronyd and chronyc: apt-get install chrony")
		}
	}
	name := fmt.Sprintf("kmt-%d-ntske-%s", os.Getpid(), strings.ToLower(t.Name()))
	must(t, netns.New(name))
	t.Cleanup(func() { must(t, netns.Delete(name)) })
	netnstest.IP(t, name, "link set lo up")
	return name
}

// chronyd runs in a namespace with conf and never touches the clock. ask runs
// chronyc and returns the fields of its lines.
func chronyd(t *testing.T, name, dir, conf string) (ask func(args ...string) [][]string) {
	t.Helper()
	must(t, os.Chmod(dir, 0o700)) // else it opens no command socket
	sock := filepath.Join(dir, "chronyd.sock")
	conf += fmt.Sprintf("\ncmdport 0\nbindcmdaddress %s\npidfile %s/chronyd.pid\nntsdumpdir %s\nuser root\n", sock, dir, dir)
	file := filepath.Join(dir, "chrony.conf")
	must(t, os.WriteFile(file, []byte(conf), 0o600))
	var out bytes.Buffer
	cmd := exec.Command("chronyd", "-x", "-d", "-f", file)
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, netns.Do(name, cmd.Start))
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("chronyd said:\n%s", &out)
		}
	})
	return func(args ...string) [][]string {
		b, err := exec.Command("chronyc", append([]string{"-c", "-n", "-h", sock}, args...)...).Output()
		if err != nil {
			return nil // it isn't there yet
		}
		var lines [][]string
		for l := range strings.Lines(string(b)) {
			lines = append(lines, strings.Split(strings.TrimSpace(l), ","))
		}
		return lines
	}
}

// respond answers NTS requests and nothing else, until the test ends.
func respond(t *testing.T, name string, port int, ring func() *nts.Keyring) (naks *atomic.Int32) {
	t.Helper()
	var conn net.PacketConn
	netnstest.Do(t, name, func() (err error) {
		conn, err = net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		return err
	})
	naks = new(atomic.Int32)
	var running sync.WaitGroup
	running.Go(func() {
		s := nts.NewSession(random)
		req := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(req)
			if err != nil {
				return
			}
			now := packet.Stamp(wall.Time(time.Now().UnixNano()))
			var q packet.Header
			resp := make([]byte, packet.HeaderSize)
			switch r := ring(); r.Open(req[:n], s) {
			case nts.OK:
				q.Parse(req)
				h := packet.Header{
					Version: 4, Mode: packet.ModeServer, Stratum: 1, Poll: q.Poll, Precision: -20,
					RefID: packet.RefIDCode("TEST"), RefTime: now, Origin: q.Transmit, Receive: now,
					Transmit: packet.Stamp(wall.Time(time.Now().UnixNano())),
				}
				h.Put(resp)
				resp, _ = r.Seal(s, resp)
			case nts.NAK:
				naks.Add(1)
				resp = s.NAK(req, resp[:0])
			default:
				continue
			}
			if _, err := conn.WriteTo(resp, from); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		conn.Close()
		running.Wait()
	})
	return naks
}

// TestHostChronyAsClient: chronyd exchanges keys with us, uses and replenishes
// its cookies across a rotation, and understands our NAK.
func TestHostChronyAsClient(t *testing.T) {
	name := namespace(t)
	dir := t.TempDir()
	a := newAuthority(t)
	must(t, os.WriteFile(filepath.Join(dir, "ca.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o644))
	s, first := newServer(t, a.issue(t, "127.0.0.1", -time.Hour, time.Hour))
	var ring atomic.Pointer[nts.Keyring]
	ring.Store(first)
	s.Ring, s.Offer = ring.Load, nts.Offer{Port: 1123}
	var ln net.Listener
	netnstest.Do(t, name, func() (err error) {
		ln, err = net.Listen("tcp", "127.0.0.1:4460")
		return err
	})
	start(t, s, ln)
	naks := respond(t, name, 1123, ring.Load)
	ask := chronyd(t, name, dir, "server 127.0.0.1 nts iburst minpoll -4 maxpoll -4\nport 0\nntstrustedcerts "+dir+"/ca.crt")

	selected := func() bool {
		l := ask("sources")
		return len(l) == 1 && l[0][1] == "*"
	}
	// Name, mode, key, type, length of key, since, attempts, NAKs, cookies, length.
	auth := func(i int) string {
		if l := ask("authdata"); len(l) == 1 && len(l[0]) == 10 {
			return l[0][i]
		}
		return ""
	}
	received := func() int { // authentic replies
		if l := ask("ntpdata"); len(l) == 1 && len(l[0]) > 2 {
			n, _ := strconv.Atoi(l[0][len(l[0])-1])
			return n
		}
		return 0
	}
	await(t, "chronyd selects us", selected)
	if got := auth(1) + " " + auth(3) + " " + auth(4); got != "NTS 15 256" {
		t.Errorf("authentication %s, want NTS 15 256", got)
	}
	before := received()
	await(t, "more replies than the key exchange gave cookies", func() bool { return received() > before+10 })
	if auth(8) != "8" || auth(9) != "100" {
		t.Errorf("%s cookies of %s octets", auth(8), auth(9))
	}
	next, err := first.Rotate(wall.Time(time.Now().UnixNano()), random)
	must(t, err)
	ring.Store(next)
	before = received()
	await(t, "replies after the rotation", func() bool { return received() > before+10 })
	if n := naks.Load(); n != 0 || auth(6) != "0" || s.Counters.Agreed.Load() != 1 {
		t.Errorf("%d NAKs, %d key exchanges", n, s.Counters.Agreed.Load())
	}
	lost, err := nts.NewKeyring(wall.Time(time.Now().UnixNano()), random)
	must(t, err)
	ring.Store(lost)
	await(t, "chronyd heeds the NAK", func() bool { return naks.Load() > 0 && auth(7) != "0" && auth(7) != "" || s.Counters.Agreed.Load() > 1 })
}

// TestHostChronyAsServer: our client exchanges keys with chronyd and is answered
// more often than the exchange gave cookies, also with replies lost.
func TestHostChronyAsServer(t *testing.T) {
	name := namespace(t)
	dir := t.TempDir()
	a := newAuthority(t)
	certFile, keyFile := write(t, dir, a.issue(t, "127.0.0.1", -time.Hour, time.Hour))
	ask := chronyd(t, name, dir, fmt.Sprintf("local stratum 7\nallow\nport 1123\nbindaddress 127.0.0.1\nntsserverkey %s\nntsservercert %s", keyFile, certFile))
	await(t, "chronyd", func() bool { return ask("tracking") != nil })

	c := Client{Roots: a.pool(), Dial: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		err = netns.Do(name, func() error {
			conn, err = new(net.Dialer).DialContext(ctx, network, addr)
			return err
		})
		return conn, err
	}}
	var r *Result
	await(t, "a key exchange", func() bool {
		var err error
		r, err = c.Handshake(context.Background(), "127.0.0.1:4460", "127.0.0.1")
		if err != nil && !strings.Contains(err.Error(), "refused") {
			t.Fatal(err)
		}
		return err == nil
	})
	if r.Server != "127.0.0.1" || r.Port != 1123 || len(r.Cookies) != 8 {
		t.Errorf("%s port %d, %d cookies", r.Server, r.Port, len(r.Cookies))
	}
	cl, err := nts.NewClient(&r.Keys, r.Cookies, random)
	must(t, err)
	var conn net.Conn
	netnstest.Do(t, name, func() (err error) {
		conn, err = net.Dial("udp", net.JoinHostPort(r.Server, strconv.Itoa(int(r.Port))))
		return err
	})
	defer conn.Close()
	b := make([]byte, 2048)
	for i := range 30 {
		h := packet.Header{Version: 4, Mode: packet.ModeClient, Transmit: packet.Timestamp(1000 + i)}
		head := make([]byte, packet.HeaderSize)
		h.Put(head)
		req, err := cl.Request(head)
		must(t, err)
		must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		_, err = conn.Write(req)
		must(t, err)
		n, err := conn.Read(b)
		must(t, err)
		if n > len(req) {
			t.Fatalf("reply of %d octets for %d", n, len(req))
		}
		if i%4 == 2 || i%4 == 3 {
			continue // lost
		}
		must(t, cl.Response(b[:n]))
		h.Parse(b)
		if h.Stratum != 7 || h.Origin != packet.Timestamp(1000+i) || cl.Cookies() != 8 {
			t.Fatalf("reply %d: stratum %d, origin %d, %d cookies left", i, h.Stratum, h.Origin, cl.Cookies())
		}
	}
}
