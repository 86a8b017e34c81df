package rtnl

import (
	"fmt"
	"os"
	"path/filepath"
)

// Ports returns the kernel's names of the Ethernet ports by their places, as
// spec.Link.Name has them: "pci:0000:02:00.0", the address of the device on the
// PCI bus or of the nearest one above it (a virtio port is below one). Where
// several ports share it, the kernel's number of the port (dev_port) follows,
// but for 0: "pci:0000:02:00.0/1". A lone port has both names, if its number
// isn't 0. Reads the sysfs of the network namespace that /sys was mounted in.
func Ports() (map[string]string, error) { return portsIn("/sys") }

func portsIn(sys string) (map[string]string, error) {
	entries, err := os.ReadDir(filepath.Join(sys, "class/net"))
	if err != nil {
		return nil, fmt.Errorf("list ports: %w", err)
	}
	type port struct{ name, number string }
	at := map[string][]port{}
	for _, e := range entries {
		dir := filepath.Join(sys, "class/net", e.Name())
		device, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
		if err != nil || text(dir, "type") != "1" { // ARPHRD_ETHER
			continue
		}
		if p := pci(device); p != "" {
			at[p] = append(at[p], port{e.Name(), text(dir, "dev_port")})
		}
	}
	names := map[string]string{}
	for place, ports := range at {
		for _, p := range ports {
			if p.number == "0" || p.number == "" || len(ports) == 1 {
				names["pci:"+place] = p.name
			}
			if p.number != "0" && p.number != "" {
				names["pci:"+place+"/"+p.number] = p.name
			}
		}
	}
	return names, nil
}

// pci is the address of a device, or of the nearest one above it that stands on
// the PCI bus; empty if there is none.
func pci(device string) string {
	for ; len(device) > 1; device = filepath.Dir(device) {
		if at, err := filepath.EvalSymlinks(filepath.Join(device, "subsystem")); err == nil && filepath.Base(at) == "pci" {
			return filepath.Base(device)
		}
	}
	return ""
}
