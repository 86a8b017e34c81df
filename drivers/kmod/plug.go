package kmod

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"komainu/drivers/uevents"
)

// ColdPlug loads the drivers of the devices below sys, /sys/devices, one after
// another in the order of their paths, so that the first port by its place on
// the PCI bus is eth0. It looks again while drivers bring up new devices, at
// most eight times. Buses that are searched in the background (SATA, USB) come
// later: Run loads for them. Devices without a driver are no error; what failed
// is returned, joined, and didn't stop the others. What lies below without, a
// folder of sys, is left out.
func (l *Loader) ColdPlug(ctx context.Context, sys, without string) error {
	var errs []error
	seen := make(map[string]bool)
	for range 8 {
		found, err := modaliases(sys, without)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		fresh := false
		for _, alias := range found {
			if ctx.Err() != nil {
				return errors.Join(append(errs, ctx.Err())...)
			}
			if seen[alias] {
				continue
			}
			seen[alias], fresh = true, true
			if err := l.Load(alias); err != nil && !errors.Is(err, ErrUnknown) {
				errs = append(errs, err)
			}
		}
		if !fresh {
			break
		}
	}
	return errors.Join(errs...)
}

// modaliases are those of all devices, in the order of the devices' paths.
// Devices that vanish meanwhile are left out.
func modaliases(sys, without string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(sys, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && name != sys:
			return nil
		case err != nil:
			return fmt.Errorf("look for devices: %w", err)
		case d.IsDir() && name == without:
			return fs.SkipDir
		case d.IsDir() || d.Name() != "modalias":
			return nil
		}
		text, err := os.ReadFile(name)
		if alias := strings.TrimSpace(string(text)); err == nil && alias != "" {
			found = append(found, alias)
		}
		return nil
	})
	return found, err
}

// Plugged loads the driver of a device that came; other events are ignored.
// ErrUnknown never comes back.
func (l *Loader) Plugged(e uevents.Event) error {
	alias := e.Vars["MODALIAS"]
	if e.Action != "add" && e.Action != "change" || alias == "" {
		return nil
	}
	if err := l.Load(alias); err != nil && !errors.Is(err, ErrUnknown) {
		return err
	}
	return nil
}
