package update

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"komainu/images/disk"
	"komainu/images/layout"
)

func TestToDisk(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(disk.LeastBytes - 1<<20); err != nil {
		t.Fatal(err)
	}
	build := layout.Build{Version: "2", Machine: layout.Machine}
	all := []disk.File{{Path: layout.Loader, Data: []byte("loader")}, {Path: layout.Images + "/komainu-2.efi", Data: content}, {Path: layout.Rescue, Data: content}}
	var steps []string
	tell := func(l line) error {
		if !slices.Contains(steps, l.Step) {
			steps = append(steps, l.Step)
		}
		return nil
	}
	if err := toDevice(t.Context(), f, "A", build, all, tell); !errors.Is(err, disk.ErrTooSmall) {
		t.Error(err)
	}
	if err := f.Truncate(disk.LeastBytes + 8<<20); err != nil {
		t.Fatal(err)
	}
	if err := toDevice(t.Context(), f, "A", build, all, tell); err != nil || !slices.Equal(steps, []string{"image-step-disk-write", "image-step-disk-check"}) {
		t.Errorf("%v, %q", err, steps)
	}
	g, err := geometry(f)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := disk.Partitions(f, g)
	if err != nil || len(parts) != 2 {
		t.Fatal(parts, err)
	}
	for _, x := range all {
		if got, err := disk.ReadFile(f, parts[0], g.Sector, x.Path); err != nil || !bytes.Equal(got, x.Data) {
			t.Error(x.Path, err)
		}
	}
	if err := compare(f, parts[0], g, []disk.File{{Path: layout.Loader, Data: []byte("Loader")}}, 6, tell); err == nil {
		t.Error("another content isn't noticed")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := toDevice(gone, f, "A", build, all, tell); err == nil {
		t.Error(err)
	}
}
