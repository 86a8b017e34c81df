package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// linksUp sets loopback and all Ethernet ports up, so that a plugged cable is
// seen; addresses are the configuration's.
func linksUp(sys string) error {
	names, err := os.ReadDir(filepath.Join(sys, "class/net"))
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	for _, n := range names {
		_, err := os.Stat(filepath.Join(sys, "class/net", n.Name(), "device"))
		if n.Name() == "lo" || err == nil {
			errs = append(errs, linkUp(n.Name()))
		}
	}
	return errors.Join(errs...)
}

func linkUp(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	return nil
}
