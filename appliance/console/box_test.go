package console

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

// pid1 is a fake PID 1.
type pid1 struct {
	box    control.Box
	power  []control.PowerOrder
	images []control.ImageOrder
	lines  []any
	err    error
}

func (d *pid1) serve(t *testing.T, run string) {
	t.Helper()
	serve(t, &control.Server{Socket: filepath.Join(run, "pid1.sock"), Routes: []control.Route{
		{Pattern: "GET " + control.BoxPath, Handle: func(context.Context, *control.Request) (any, error) { return d.box, nil }},
		{Pattern: "POST " + control.PowerPath, Handle: func(_ context.Context, r *control.Request) (any, error) {
			var o control.PowerOrder
			err := r.Decode(&o)
			d.power = append(d.power, o)
			return control.Reply{OK: true, Code: "done"}, err
		}},
		{Pattern: "POST " + control.ImagePath, Stream: func(_ context.Context, r *control.Request, send func(any) error) error {
			var o control.ImageOrder
			if err := r.Decode(&o); err != nil {
				return err
			}
			d.images = append(d.images, o)
			for _, l := range d.lines {
				if err := send(l); err != nil {
					return err
				}
			}
			return d.err
		}},
	}})
}

func boxes() map[string]control.Box {
	ports := []control.Port{
		{Name: "eth0", PCI: "0000:02:00.0", Driver: "e1000e", MAC: "52:54:00:12:34:56", Carrier: true, Mbit: 1000},
		{Name: "eth1", PCI: "0000:03:00.0", Driver: "e1000e", MAC: "52:54:00:12:34:57"},
	}
	disks := []control.Disk{
		{Name: "nvme0n1", Model: "KIOXIA KBG40ZNS256G", Serial: "Z0PPC1QJPT21", Bytes: 256 << 30, Bus: "nvme", System: true, Content: "komainu"},
		{Name: "sda", Model: "DataTraveler 3.0", Serial: "E0D55EA574", Bytes: 16 << 30, Bus: "usb", Removable: true},
	}
	calm := control.Box{
		Version: "2026.11.22.1849", Entry: "komainu-2026.11.22.1849.efi", Model: "Advantech EIS-D210", Serial: "KSA1234567", Booted: noon, UptimeS: 260000, Memory: 8 << 30,
		Last: control.Reset{Kind: "order", Reason: control.Reason{Code: "image-restart", Args: []string{"2026.11.22.1849", "sato"}}}, Data: "ok", Faults: []control.Reason{},
		Images: []control.Image{{Version: "2026.11.22.1849", File: "komainu-2026.11.22.1849.efi", State: "accepted", Running: true}, {Version: "2026.10.1.900", State: "accepted"}},
		Disks:  disks, Ports: ports,
	}
	back := calm
	back.UptimeS, back.Version = 40, "2026.10.1.900"
	back.Last = control.Reset{Kind: "panic", Detail: "a\nb\nKernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\nCPU: 0 PID: 1 Comm: init Not tainted 6.1.0-44-amd64\nCall Trace:\n dump_stack_lvl", At: noon.Add(-time.Minute)}
	back.Images = []control.Image{{Version: "2026.11.22.1849", State: "failed", File: "komainu-2026.11.22.1849+0-3.efi", Reason: control.Reason{Code: "image-failed-panic"}}, {Version: "2026.10.1.900", State: "accepted", Running: true}}
	trying := calm
	trying.Images = []control.Image{{Version: "2026.11.22.1849", State: "trial", Left: 2, Running: true}, {Version: "2026.10.1.900", State: "accepted"}}
	trying.Trial = &control.Trial{LeftS: 221, Waiting: []control.Reason{{Code: "trial-database", Args: []string{"resident"}}, {Code: "trial-path", Args: []string{"main"}}},
		Excused: []control.Reason{{Code: "trial-unplugged", Args: []string{"0000:03:00.0"}}}}
	rescue := control.Box{Version: "2026.11.22.1849", Rescue: true, Model: "QEMU Standard PC (Q35 + ICH9, 2009)", Booted: noon, UptimeS: 3, Memory: 512 << 20, Data: "none",
		Last: control.Reset{Kind: "watchdog"}, Images: []control.Image{{Version: "2026.11.22.1849", State: "rescue", Running: true}}, Faults: []control.Reason{{Code: "efi-damaged", Args: []string{"sda1: input/output error"}}}}
	return map[string]control.Box{"calm": calm, "back": back, "trial": trying, "rescue": rescue}
}

func TestShowBox(t *testing.T) {
	dir := t.TempDir()
	d := &pid1{}
	d.serve(t, dir)
	for name, b := range boxes() {
		d.box = b
		golden(t, "box-"+name, both(t, dir, "show box")+both(t, dir, "image list"))
		for _, line := range []string{"show box --json", "image list --json"} {
			if code, got := run(t, dir, line); code != 0 || !json.Valid([]byte(got)) {
				t.Errorf("%s: %d\n%s", line, code, got)
			}
		}
	}
}

func TestPower(t *testing.T) {
	dir := t.TempDir()
	d := &pid1{}
	d.serve(t, dir)
	for line, want := range map[string]string{"restart --reason=moved": "restart", "power off": "off", "rescue": "rescue"} {
		d.power = nil
		if code, got := run(t, dir, line); code != 0 || got != "done\n" || len(d.power) != 1 || d.power[0].Action != want || d.power[0].By != "sato" {
			t.Errorf("%s: %d %s %+v", line, code, got, d.power)
		}
	}
	if code, got := run(t, t.TempDir(), "restart"); code != exitFailed || !strings.Contains(got, "the supervisor of the box doesn't answer") {
		t.Errorf("%d %s", code, got)
	}
}

func TestImageOrders(t *testing.T) {
	dir := t.TempDir()
	d := &pid1{}
	d.serve(t, dir)
	for line, want := range map[string]control.ImageOrder{
		"image accept":                                 {Action: "accept"},
		"image revert":                                 {Action: "revert"},
		"image install usb: --again yes":               {Action: "install", Source: "usb:", Again: true},
		"image ins https://a/b --restart=yes":          {Action: "install", Source: "https://a/b", Restart: true},
		"image to E0D55EA574":                          {Action: "to-disk", Disk: "E0D55EA574"},
		"image install /data/komainu-2.kmb --again no": {Action: "install", Source: "/data/komainu-2.kmb"},
	} {
		want.By = "sato"
		d.images = nil
		if code, got := run(t, dir, line); code != 0 || len(d.images) != 1 || d.images[0] != want {
			t.Errorf("%s: %d %s %+v", line, code, got, d.images)
		}
	}
	if code, got := run(t, dir, "image install usb: --again maybe"); code != exitUsage {
		t.Errorf("%d %s", code, got)
	}
	progress := func(step string, n, of int64) control.ImageProgress {
		return control.ImageProgress{Step: step, Bytes: n, Of: of}
	}
	d.lines = []any{control.ImageProgress{Step: "image-step-open", Args: []string{"usb:"}}}
	for n := range int64(101) {
		d.lines = append(d.lines, progress("image-step-write", n, 100))
	}
	d.lines = append(d.lines, progress("image-step-check", 0, 100), progress("image-step-check", 50, 100))
	d.err = &control.Error{Code: "efi-damaged", Args: []string{"reads back otherwise"}}
	code, got := run(t, dir, "image install usb:")
	if want := "opening usb:\nwriting the image 20 % 40 % 60 % 80 % 100 %\nreading it back 20 % 40 %\nthe EFI partition is damaged: write the disk again from a stick (reads back otherwise)\n"; code != exitFailed || got != want {
		t.Errorf("%d\n%s", code, got)
	}
	d.err = nil
	d.lines = append(d.lines[:102], control.ImageProgress{Step: "image-step-installed", Args: []string{"2"}, Done: true})
	golden(t, "image-install", both(t, dir, "image install usb:"))
	if code, got := run(t, dir, "image install usb: --json"); code != 0 || strings.Count(got, "\n") != len(d.lines) {
		t.Errorf("%d\n%s", code, got)
	}
}

// TestBoxInStatus: what is wrong with image and data partition, a line or two each.
func TestBoxInStatus(t *testing.T) {
	a := &agent{}
	dir := a.serve(t)
	var all string
	for _, name := range []string{"back", "calm", "rescue", "trial"} {
		b := boxes()[name]
		for _, lang := range say.Languages() {
			p := &page{lang: lang}
			p.troubles(&b)
			all += p.text()
		}
		a.st = cut()
		a.st.Box = &b
		if got := both(t, dir, "show status"); len(got) > 2*statusMost {
			t.Errorf("%s: %d bytes\n%s", name, len(got), got)
		}
	}
	golden(t, "status-box", all)
}
