//go:build linux

// Command trivial is the smallest PID 1 that a machine can be driven by: it says
// Ready on the console and does what it is told there, a command a line. It is
// what the real image is compared with, and what the lab of boxes is tested with.
//
//	address LINK PREFIX    sets an address and takes the link up
//	put DISK OFFSET WORD   writes a sector that begins with WORD
//	sync DISK              flushes the disk's cache
//	get DISK OFFSET        prints the word at the beginning of a sector
//	date                   prints the time of the hardware clock
//	watch SECONDS          starts the watchdog and never feeds it
//	memory                 prints the memory in use, in KiB
//	off, reboot
//
// UDP packets to port 7 come back (RFC 862). Start reading at main.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"
)

// ready is the line that says that PID 1 runs.
const ready = "trivial: ready"

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "trivial: is the PID 1 of a test machine")
		os.Exit(2)
	}
	fmt.Println(ready)
	if err := prepare(); err != nil {
		fmt.Println("trivial:", err)
	}
	for in := bufio.NewScanner(os.Stdin); ; {
		fmt.Print("trivial> ")
		if !in.Scan() {
			halt(unix.LINUX_REBOOT_CMD_POWER_OFF)
		}
		if words := strings.Fields(in.Text()); len(words) > 0 {
			if err := run(words); err != nil {
				fmt.Println("error:", err)
			}
		}
	}
}

// prepare mounts what is needed and loads the modules of the initramfs, whose
// names are in loading order.
func prepare() error {
	var errs []error
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}} {
		errs = append(errs, os.MkdirAll(m.at, 0o755), unix.Mount(m.kind, m.at, m.kind, 0, ""))
	}
	files, err := filepath.Glob("/modules/*")
	errs = append(errs, err)
	slices.Sort(files)
	for _, name := range files {
		f, err := os.Open(name)
		if err == nil {
			err = unix.FinitModule(int(f.Fd()), "", 0)
			f.Close()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("load %s: %w", name, err))
		}
	}
	if len(files) == 0 {
		return errors.Join(errs...)
	}
	c, err := net.ListenPacket("udp", ":7")
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	go echo(c) // lives as long as the machine
	return errors.Join(errs...)
}

func echo(c net.PacketConn) {
	buf := make([]byte, 65536)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			fmt.Println("trivial: echo:", err)
			return
		}
		_, _ = c.WriteTo(buf[:n], from) // as UDP may
	}
}

var errUsage = errors.New("unknown command, or not its arguments")

func run(w []string) error {
	switch {
	case w[0] == "address" && len(w) == 3:
		return address(w[1], w[2])
	case w[0] == "date" && len(w) == 1:
		fmt.Println(time.Now().UTC().Format(time.DateTime))
		return nil
	case w[0] == "watch" && len(w) == 2:
		return watch(w[1])
	case w[0] == "memory" && len(w) == 1:
		return memory()
	case w[0] == "put" && len(w) == 4:
		return sector(w[1], w[2], func(f *os.File, off int64) error {
			_, err := f.WriteAt(append([]byte(w[3]), make([]byte, 512-len(w[3]))...), off)
			return err
		})
	case w[0] == "get" && len(w) == 3:
		return sector(w[1], w[2], func(f *os.File, off int64) error {
			b := make([]byte, 512)
			if _, err := f.ReadAt(b, off); err != nil {
				return err
			}
			word, _, _ := bytes.Cut(b, []byte{0})
			fmt.Printf("%q\n", word)
			return nil
		})
	case w[0] == "sync" && len(w) == 2:
		return sector(w[1], "0", func(f *os.File, _ int64) error { return f.Sync() })
	case w[0] == "off" && len(w) == 1:
		halt(unix.LINUX_REBOOT_CMD_POWER_OFF)
	case w[0] == "reboot" && len(w) == 1:
		halt(unix.LINUX_REBOOT_CMD_RESTART)
	}
	return errUsage
}

func halt(how int) {
	unix.Sync()
	if err := unix.Reboot(how); err != nil {
		fmt.Println("trivial:", err)
	}
}

func address(link, prefix string) error {
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		return err
	}
	at, err := net.InterfaceByName(link)
	if err != nil {
		return err
	}
	k, err := rtnetlink.Dial(nil)
	if err != nil {
		return err
	}
	defer k.Close()
	if err := k.Link.Set(&rtnetlink.LinkMessage{Index: uint32(at.Index), Flags: unix.IFF_UP, Change: unix.IFF_UP}); err != nil {
		return err
	}
	family := uint8(unix.AF_INET)
	if p.Addr().Is6() {
		family = unix.AF_INET6
	}
	ip := net.IP(p.Addr().AsSlice())
	return k.Address.New(&rtnetlink.AddressMessage{
		Family: family, PrefixLength: uint8(p.Bits()), Index: uint32(at.Index),
		Attributes: &rtnetlink.AddressAttributes{Address: ip, Local: ip, Flags: unix.IFA_F_NODAD},
	})
}

// sector runs f on a disk. Closing it writes the kernel's cache out, but does not
// flush the disk's.
func sector(disk, offset string, f func(*os.File, int64) error) error {
	off, err := strconv.ParseInt(offset, 10, 64)
	if err != nil {
		return err
	}
	d, err := os.OpenFile(filepath.Join("/dev", disk), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f(d, off), d.Close())
}

// watch leaves the watchdog open (Documentation/watchdog/watchdog-api.rst).
func watch(seconds string) error {
	n, err := strconv.Atoi(seconds)
	if err != nil {
		return err
	}
	fd, err := unix.Open("/dev/watchdog", unix.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, n)
}

func memory() error {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	var total, available int
	for line := range strings.Lines(string(b)) {
		if w := strings.Fields(line); len(w) > 1 && w[0] == "MemTotal:" {
			total, err = strconv.Atoi(w[1])
		} else if len(w) > 1 && w[0] == "MemAvailable:" {
			available, err = strconv.Atoi(w[1])
		}
		if err != nil {
			return err
		}
	}
	fmt.Println(total - available)
	return nil
}
