package boxes_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"komainu/tools/boxes"
	"komainu/tools/lab"
)

var ready = regexp.MustCompile(`trivial: ready\n(?s:.*)> \z`)

// machines is a lab for them; the test is skipped where there can be none.
func machines(t *testing.T) *lab.Lab {
	t.Helper()
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("boots machines, which needs root and half a minute")
	}
	for _, name := range []string{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"} {
		if _, err := os.Stat(name); err != nil {
			t.Skip("install ovmf and systemd-boot-efi:", err)
		}
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("install qemu-system-x86:", err)
	}
	l, err := lab.New(t.Context(), lab.Options{Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func host(t *testing.T, l *lab.Lab, name string, w lab.Wiring) *lab.Host {
	t.Helper()
	h, err := l.NewHost(name, w)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// trivialDisk is a disk that starts the trivial image.
func trivialDisk(t *testing.T, l *lab.Lab) string {
	t.Helper()
	efi, disk := filepath.Join(l.Dir, "trivial.efi"), filepath.Join(l.Dir, "trivial.img")
	if err := boxes.Trivial(t.Context(), efi, true); err != nil {
		t.Fatal(err)
	}
	if err := boxes.WriteEFIDisk(disk, efi); err != nil {
		t.Fatal(err)
	}
	return disk
}

// TestHostMachine boots a machine from a disk that forgets, gives it a place on
// a LAN and at the end of a line, cuts its power, and boots it again.
func TestHostMachine(t *testing.T) {
	l := machines(t)
	office, err := l.NewLAN("office")
	if err != nil {
		t.Fatal(err)
	}
	client := host(t, l, "client", lab.Wiring{Ports: []lab.Port{{Link: "eth0", LAN: office, Addresses: prefixes("192.168.50.101/24", "2001:db8:50::65/64")}}})
	far := host(t, l, "far", lab.Wiring{})
	// The host of the machine may have addresses: they become the machine's.
	place := host(t, l, "hall", lab.Wiring{Ports: []lab.Port{{Link: "office", LAN: office, Addresses: prefixes("192.168.50.1/24")}}})
	line, err := l.NewLine("main",
		lab.LineEnd{Host: place, Addresses: prefixes("10.20.7.2/29")},
		lab.LineEnd{Host: far, Addresses: prefixes("10.20.7.1/29", "2001:db8:7:1::1/64")})
	if err != nil {
		t.Fatal(err)
	}
	box, err := boxes.New(place, boxes.Options{
		Memory: 512, Watchdog: true, Disks: []boxes.Disk{{Name: "system", From: trivialDisk(t, l)}},
		NICs: []boxes.NIC{{Link: "office"}, {Link: "main"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	do := func(command, want string) {
		t.Helper()
		got, err := box.Console.Do(ctx, command)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	took, err := box.Boot(ctx, ready)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("power on to PID 1: %v", took)

	do("address eth0 192.168.50.1/24", "")
	do("address eth0 2001:db8:50::1/64", "")
	do("address eth1 10.20.7.2/29", "")
	do("address eth1 2001:db8:7:1::2/64", "")
	for _, x := range []struct {
		from *lab.Host
		to   string
	}{
		{client, "192.168.50.1:7"}, {client, "[2001:db8:50::1]:7"}, {far, "10.20.7.2:7"}, {far, "[2001:db8:7:1::2]:7"},
	} {
		if err := echo(ctx, x.from, x.to, 2*time.Second); err != nil {
			t.Errorf("from %s: %v", x.from.Name, err)
		}
	}
	line.Cut(lab.DCToHall)
	if err := echo(ctx, far, "10.20.7.2:7", 300*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("over a line that is cut: %v", err)
	}
	line.Heal(lab.DCToHall)
	if err := box.SetLink(ctx, 0, false); err != nil {
		t.Error(err)
	}
	if err := echo(ctx, client, "192.168.50.1:7", 300*time.Millisecond); err == nil {
		t.Error("a cable that is pulled still carries")
	}
	if err := box.SetLink(ctx, 0, true); err != nil {
		t.Error(err)
	}

	// Far behind the files of the FAT, so that the next boot is not hurt.
	const at = 512 << 20
	do(fmt.Sprintf("put vda %d kept", at), "")
	do("sync vda", "")
	for i := range 8 {
		do(fmt.Sprintf("put vda %d new%d", at+8192*i, i), "")
	}
	loss, err := box.PowerCut(3)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the power cut: %+v", loss)
	// As the lab's scenarios power a host off and on.
	if err := place.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	place.OnBoot(box.Start)
	if err := place.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := box.Console.Expect(ctx, ready); err != nil {
		t.Fatal(err)
	}
	do("address eth0 192.168.50.1/24", "")
	do("address eth1 10.20.7.2/29", "")
	if err := errors.Join(echo(ctx, client, "192.168.50.1:7", 2*time.Second), echo(ctx, far, "10.20.7.2:7", 2*time.Second)); err != nil {
		t.Error("after a power-off of the host:", err)
	}
	lost := 0
	for i := range 8 {
		got, err := box.Console.Do(ctx, fmt.Sprintf("get vda %d", at+8192*i))
		if err != nil {
			t.Fatal(err)
		}
		was := ""
		if i == 0 {
			was = "kept"
		}
		switch strings.TrimSpace(got) {
		case fmt.Sprintf("%q", was):
			lost++
		case fmt.Sprintf(`"new%d"`, i):
		default:
			t.Errorf("sector %d holds %s", i, got)
		}
	}
	t.Logf("%d of 8 writes lost", lost)
	if err := box.Console.Send("off"); err != nil {
		t.Fatal(err)
	}
	if err := box.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if box.Running() {
		t.Error("a machine that is off runs")
	}
}

// echo sends a packet to port 7 until one comes back.
func echo(ctx context.Context, from *lab.Host, to string, patience time.Duration) error {
	c, err := from.Dial(ctx, "udp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	n, err := c.Read(make([]byte, 100))
	if err == nil && n != 5 {
		err = fmt.Errorf("%d bytes came back", n)
	}
	return err
}

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}
