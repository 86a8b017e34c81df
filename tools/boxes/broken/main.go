// Command broken is put into an image in place of the program, which then
// stands beside it as komainu.real. It fails as /etc/broken says and hands
// everything else on, so that the way back from a bad version is tested with
// images that are bad. Start reading at faults.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const program = "/bin/komainu.real"

// faults by name. One that returns lets the real program go on.
var faults = map[string]func(args []string) error{
	// PID 1 ends, and the kernel panics.
	"panic": func([]string) error {
		if os.Getpid() == 1 {
			os.Exit(1)
		}
		return nil
	},
	// PID 1 arms the watchdog and hangs.
	"hang": func([]string) error {
		if os.Getpid() != 1 {
			return nil
		}
		if err := arm(); err != nil {
			return err
		}
		select {}
	},
	// The agent ends at once, always.
	"agent": func(args []string) error {
		if len(args) > 1 && args[1] == "agent" {
			os.Exit(1)
		}
		return nil
	},
	// The image has no driver for the network cards.
	"network": func([]string) error {
		if os.Getpid() != 1 {
			return nil
		}
		dirs, err := filepath.Glob("/lib/modules/*/kernel/drivers/net/ethernet")
		nic, err2 := filepath.Glob("/lib/modules/*/kernel/drivers/net/virtio_net.ko")
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if len(dirs)+len(nic) == 0 {
			return errors.New("no network drivers to remove")
		}
		for _, d := range append(dirs, nic...) {
			if err := os.RemoveAll(d); err != nil {
				return err
			}
		}
		return nil
	},
}

func main() {
	kind, err := os.ReadFile("/etc/broken")
	if err == nil {
		if fault := faults[strings.TrimSpace(string(kind))]; fault != nil {
			err = fault(os.Args)
		} else {
			err = fmt.Errorf("no fault %q", kind)
		}
	}
	if err == nil {
		err = unix.Exec(program, os.Args, os.Environ())
	}
	fmt.Fprintln(os.Stderr, "broken:", err)
	os.Exit(1)
}

// arm starts the hardware watchdog, which nobody will feed. It stays open.
func arm() error {
	for _, m := range []struct{ from, to, kind string }{{"devtmpfs", "/dev", "devtmpfs"}, {"proc", "/proc", "proc"}, {"sysfs", "/sys", "sysfs"}} {
		if err := unix.Mount(m.from, m.to, m.kind, 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s: %w", m.to, err)
		}
	}
	load, err := os.StartProcess(program, []string{"modprobe", "i6300esb"}, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}})
	if err != nil {
		return err
	}
	if st, err := load.Wait(); err != nil || !st.Success() {
		return fmt.Errorf("modprobe i6300esb: %v, %w", st, err)
	}
	if _, err := unix.Open("/dev/watchdog", unix.O_WRONLY, 0); err != nil {
		return fmt.Errorf("open /dev/watchdog: %w", err)
	}
	return nil
}
