// Package machine gathers what PID 1 tells about the hardware: model, memory,
// ports, disks. It reads sysfs, changes nothing and decides nothing. Start
// reading at Read.
package machine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"komainu/appliance/control"
	"komainu/drivers/blockdev"
	"komainu/images/layout"
)

// Facts are what doesn't change while the box runs.
type Facts struct {
	Model, Serial string // as the firmware says; what it leaves empty or unset stays empty
	Memory        int64  // bytes that the kernel has
}

// Read reads them below sys, "/sys".
func Read(sys string) Facts {
	f := Facts{Serial: dmi(sys, "product_serial")}
	f.Model = strings.TrimSpace(dmi(sys, "sys_vendor") + " " + dmi(sys, "product_name"))
	if f.Serial == "" {
		f.Serial = dmi(sys, "chassis_serial")
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		f.Memory = int64(info.Totalram) * int64(info.Unit) //nolint:gosec // memory
	}
	return f
}

// unset are what boards without a name say.
var unset = []string{"To Be Filled By O.E.M.", "To be filled by O.E.M.", "Default string", "Not Specified", "None", "System Product Name", "System Serial Number", "0123456789"}

func dmi(sys, name string) string {
	s := text(filepath.Join(sys, "class/dmi/id", name))
	if slices.Contains(unset, s) {
		return ""
	}
	return s
}

// Ports are the Ethernet links with hardware below them, in the order of their
// places on the PCI bus, then by name.
func Ports(sys string) ([]control.Port, error) {
	names, err := os.ReadDir(filepath.Join(sys, "class/net"))
	if err != nil {
		return nil, err
	}
	ports := []control.Port{}
	for _, n := range names {
		dir := filepath.Join(sys, "class/net", n.Name())
		device, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
		if err != nil || text(filepath.Join(dir, "type")) != "1" { // ARPHRD_ETHER
			continue
		}
		p := control.Port{Name: n.Name(), PCI: pci(device), MAC: text(filepath.Join(dir, "address"))}
		if driver, err := filepath.EvalSymlinks(filepath.Join(device, "driver")); err == nil {
			p.Driver = filepath.Base(driver)
		}
		p.Carrier = text(filepath.Join(dir, "carrier")) == "1" // unreadable while the port is down
		if mbit, err := strconv.Atoi(text(filepath.Join(dir, "speed"))); err == nil && mbit > 0 {
			p.Mbit = mbit
		}
		ports = append(ports, p)
	}
	slices.SortStableFunc(ports, func(a, b control.Port) int { return strings.Compare(a.PCI, b.PCI) })
	return ports, nil
}

// pci is the address of the device, or of the nearest one above it that stands
// on the PCI bus (a virtio port is below one): "0000:02:00.0".
func pci(device string) string {
	for ; len(device) > 1; device = filepath.Dir(device) {
		if at, err := filepath.EvalSymlinks(filepath.Join(device, "subsystem")); err == nil && filepath.Base(at) == "pci" {
			return filepath.Base(device)
		}
	}
	return ""
}

// Disks are all disks with what is on them; system is the name of the one that
// the box runs from. Disks that can't be read are listed with the error.
func Disks(root blockdev.Root, system string) ([]control.Disk, error) {
	found, err := root.List()
	if err != nil {
		return nil, err
	}
	disks, errs := []control.Disk{}, []error(nil)
	for _, d := range found {
		d, err := root.Look(d)
		errs = append(errs, err)
		disks = append(disks, control.Disk{
			Name: d.Name, Model: d.Model, Serial: d.Serial, Bytes: d.Bytes, Bus: d.Bus,
			Removable: d.Removable, System: d.Name == system, Content: content(d),
		})
	}
	return disks, errors.Join(errs...)
}

func content(d blockdev.Disk) string {
	if _, ours := d.Find(layout.ESPType, layout.ESPName); ours {
		return "komainu"
	}
	if d.Content == blockdev.Blank {
		return ""
	}
	return d.Content
}

func text(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
