package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"komainu/appliance/control"
	"komainu/tools/boxes"
	"komainu/tools/boxes/life"
)

// imageBound: two starts of a machine in emulation, maybe the image's build
// before them.
const imageBound = 20 * time.Minute

// parts must be among what the image lists: the appliance and what it keeps running.
var parts = []string{"komainu", "postgresql-15", "strongswan-charon", "linux-image"}

// image: nothing is pushed over the line. A box is installed from a stick with its
// cable out, starts from its disk, and is looked at from the data centre's side.
func image(ctx context.Context, r *run) error {
	got, err := life.Install(ctx, "accept-image", boxes.NVMe)
	if err != nil {
		return err
	}
	b := got.Box
	running := slices.ContainsFunc(b.Images, func(i control.Image) bool { return i.Running && i.State == "accepted" })
	installed := strings.Contains(got.Progress, "is ready") && running && b.Data == "made"
	r.row("AT-111", "the image and its site bundle installed from a stick, the network's cable out, started from the disk",
		fmt.Sprintf("installed in %s, login after %s", short(got.Took), short(got.Started)), installed)
	monitored := got.State.Box != nil && got.State.Box.Version == b.Version
	r.row("AT-107", "the monitored part is in the image: nothing is installed over the WAN", fmt.Sprintf("1 of 1, version %s", b.Version), installed && monitored)
	r.row("AT-108", "faults that the installed box tells at its first start", fmt.Sprintf("%d %v", len(b.Faults), b.Faults), installed && len(b.Faults) == 0)

	listed, err := listed()
	var missing []string
	for _, p := range parts {
		if !slices.ContainsFunc(listed, func(name string) bool { return strings.HasPrefix(name, p) }) {
			missing = append(missing, p)
		}
	}
	r.row("AT-109", "parts of the image in out/sbom.json, the version that runs in show box",
		say(fmt.Sprintf("%d parts listed, %d of ours missing %v; version %s listed: %t", len(listed), len(missing), missing, b.Version, running), err),
		err == nil && len(missing) == 0 && running)
	r.row("AT-110", "the cable plugged in, /healthz asked from the data centre's side", fmt.Sprintf("/healthz %d %s, /v1/status with the box's state: %t", got.Code, strings.TrimSpace(got.Health), monitored), monitored)
	return nil
}

// listed are the names of the image's parts.
func listed() ([]string, error) {
	root, err := boxes.Repository()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(root, "out", "sbom.json"))
	if err != nil {
		return nil, err
	}
	var bom struct {
		Components []struct {
			Name string `json:"name"`
		} `json:"components"`
	}
	if err := json.Unmarshal(text, &bom); err != nil {
		return nil, fmt.Errorf("out/sbom.json: %w", err)
	}
	if len(bom.Components) == 0 {
		return nil, errors.New("out/sbom.json lists nothing")
	}
	var names []string
	for _, c := range bom.Components {
		names = append(names, c.Name)
	}
	return names, nil
}
