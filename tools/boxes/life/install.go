// Package life plays what befalls one box between its delivery and its end: it
// is installed without a network, it has little memory, a dead clock battery, no
// serial line, a disk that holds something else, is full or damaged, and
// processes that hang. Start reading at Install.
package life

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"komainu/appliance/control"
	"komainu/tools/boxes"
	"komainu/tools/boxes/scene"
)

// Serial is the serial number of the disk that Install installs to.
const Serial = "KOMAINU-TEST-1"

// Installed is what Install saw, in order.
type Installed struct {
	Shown    control.Box   // the box that started from the stick, its cable out
	Progress string        // of the installation, as the person reads it
	Took     time.Duration // of the installation
	Box      control.Box   // as it started from its disk, stick and cable out
	Status   string        // `show status` then
	Started  time.Duration // from power-on to the login prompt
	Code     int           // of /healthz, asked by a client on the LAN when the cable is in
	Health   string        // its body
	State    control.Status
}

// Install installs a box from a stick that has the image and the site bundle,
// with no network, starts it from its disk, and plugs the cable in.
func Install(ctx context.Context, name string, bus boxes.Bus) (got Installed, err error) {
	image, err := boxes.BuildImage(ctx)
	if err != nil {
		return got, err
	}
	dir, err := os.MkdirTemp("", "komainu-life-")
	if err != nil {
		return got, err
	}
	defer os.RemoveAll(dir)
	site, err := scene.SiteBundle()
	if err != nil {
		return got, err
	}
	stick := filepath.Join(dir, "stick.img")
	if err := scene.WithSite(ctx, image, stick, site); err != nil {
		return got, err
	}
	s, err := scene.New(ctx, name, "", boxes.Options{Disks: []boxes.Disk{
		{Name: "system", Size: scene.SystemBytes, Bus: bus, Serial: Serial},
		{Name: "stick", From: stick, Bus: boxes.USB, Plain: true},
	}})
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := fromStick(ctx, s, &got); err != nil {
		return got, fmt.Errorf("install from the stick: %w", err)
	}
	if err := s.Unplug(ctx, "stick"); err != nil {
		return got, err
	}
	if err := fromDisk(ctx, s, &got); err != nil {
		return got, fmt.Errorf("start from the disk: %w", err)
	}
	return got, nil
}

func fromStick(ctx context.Context, s *scene.Scene, got *Installed) error {
	if _, err := PowerOnUnplugged(ctx, s); err != nil {
		return err
	}
	if err := s.FirstLogin(ctx); err != nil {
		return err
	}
	var err error
	if got.Shown, err = Ask(ctx, s.Console); err != nil {
		return err
	}
	began := time.Now()
	if got.Progress, err = s.Console.Do(ctx, "image to-disk "+Serial); err != nil {
		return err
	}
	got.Took = time.Since(began)
	if err := s.Console.Send("power off"); err != nil {
		return err
	}
	return s.Wait(ctx)
}

func fromDisk(ctx context.Context, s *scene.Scene, got *Installed) error {
	var err error
	if got.Started, err = PowerOnUnplugged(ctx, s); err != nil {
		return err
	}
	if err := s.FirstLogin(ctx); err != nil {
		return err
	}
	if got.Box, err = Ask(ctx, s.Console); err != nil {
		return err
	}
	if got.Status, err = s.Console.Do(ctx, "show status"); err != nil {
		return err
	}
	if err := s.SetLink(ctx, 0, true); err != nil {
		return err
	}
	if got.Code, got.Health, err = Healthz(ctx, s); err != nil {
		return err
	}
	_, text, err := get(ctx, s, control.StatusPath)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), &got.State); err != nil {
		return fmt.Errorf("%s: %w:\n%s", control.StatusPath, err, text)
	}
	return nil
}

// PowerOnUnplugged is PowerOn with the network's cable out.
func PowerOnUnplugged(ctx context.Context, s *scene.Scene) (time.Duration, error) {
	began := time.Now()
	if err := errors.Join(s.Start(ctx), s.SetLink(ctx, 0, false)); err != nil {
		return 0, err
	}
	_, err := s.Console.Expect(ctx, Login)
	return time.Since(began), err
}

// Ask is `show box` of a console at its prompt.
func Ask(ctx context.Context, c *boxes.Console) (control.Box, error) {
	var b control.Box
	out, err := c.Do(ctx, "show box --json")
	if err != nil {
		return b, err
	}
	// Notices of alarms may stand before and behind the answer.
	if err := json.NewDecoder(strings.NewReader(out[max(0, strings.Index(out, "{")):])).Decode(&b); err != nil {
		return b, fmt.Errorf("show box --json: %w:\n%s", err, out)
	}
	return b, nil
}

// Healthz asks the box's health endpoint from the client beside it, until it
// answers or ctx ends.
func Healthz(ctx context.Context, s *scene.Scene) (code int, body string, err error) {
	for {
		code, body, err = get(ctx, s, "/healthz")
		if err == nil {
			return code, body, nil
		}
		select {
		case <-ctx.Done():
			return 0, "", fmt.Errorf("health of the box: %w", err)
		case <-time.After(200 * time.Millisecond): // a box that starts doesn't say when it will be up
		}
	}
}

func get(ctx context.Context, s *scene.Scene, path string) (int, string, error) {
	t := &http.Transport{DialContext: s.Client.Dial, DisableKeepAlives: true}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+scene.Health+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}
