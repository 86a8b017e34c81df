package rtnl

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func TestPortsByPlace(t *testing.T) {
	sys := t.TempDir()
	link := func(to, name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(sys, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(sys, to), filepath.Join(sys, name)); err != nil {
			t.Fatal(err)
		}
	}
	file := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(sys, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sys, name), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bus/pci", "bus/virtio", "bus/usb"} {
		file(d+"/drivers_probe", "")
	}
	for _, d := range []string{"0000:02:00.0", "0000:03:00.0", "0000:04:00.1", "0000:05:00.0"} {
		link("bus/pci", "devices/pci0000:00/"+d+"/subsystem")
	}
	link("bus/virtio", "devices/pci0000:00/0000:05:00.0/virtio1/subsystem")
	for name, p := range map[string][3]string{
		"eth0":   {"devices/pci0000:00/0000:02:00.0", "1", "0"},
		"eth1":   {"devices/pci0000:00/0000:03:00.0", "1", "0"}, // two at one place
		"eth2":   {"devices/pci0000:00/0000:03:00.0", "1", "1"},
		"eth3":   {"devices/pci0000:00/0000:04:00.1", "1", "1"}, // alone, with a number
		"eth4":   {"devices/pci0000:00/0000:05:00.0/virtio1", "1", "0"},
		"wlan0":  {"devices/pci0000:00/0000:02:00.0", "801", "0"}, // not Ethernet
		"bond0":  {"", "1", "0"},                                  // no hardware
		"absent": {"devices/nowhere", "1", "0"},
	} {
		file("class/net/"+name+"/type", p[1])
		file("class/net/"+name+"/dev_port", p[2])
		if p[0] != "" {
			link(p[0], "class/net/"+name+"/device")
		}
	}
	got, err := portsIn(sys)
	want := map[string]string{
		"pci:0000:02:00.0": "eth0", "pci:0000:03:00.0": "eth1", "pci:0000:03:00.0/1": "eth2",
		"pci:0000:04:00.1": "eth3", "pci:0000:04:00.1/1": "eth3", "pci:0000:05:00.0": "eth4",
	}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v\nwant %v", got, err, want)
	}
}
