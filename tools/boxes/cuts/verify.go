package cuts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"komainu/appliance/control"
	"komainu/images/layout"
	"komainu/images/uki"
	"komainu/tools/boxes"
	"komainu/tools/boxes/scene"
)

const system = "system" // the disk

var (
	installed   = regexp.MustCompile(`is installed; it is tried`)
	prompt      = regexp.MustCompile(`(?m)^\S+> \z`)
	askPassword = regexp.MustCompile(`(?i)password: \z`)
	answer      = regexp.MustCompile(`(?m)^\S+> \z|login: \z`)
	newPassword = regexp.MustCompile(`new password: \z`)
	again       = regexp.MustCompile(`again: \z`)
)

// verify starts the box and asks for all promises.
func (t *Target) verify(ctx context.Context, r *Result) error {
	boot, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	took, err := t.PowerOn(boot)
	if err != nil {
		return err
	}
	r.BootS = took.Seconds()
	if err := t.login(ctx); err != nil {
		return err
	}
	b, err := t.box(ctx)
	if err != nil {
		return err
	}
	r.Data, r.Version = b.Data, b.Version
	for _, f := range b.Faults {
		r.Faults = append(r.Faults, strings.Join(append([]string{f.Code}, f.Args...), " "))
	}
	if b.Data != "ok" && b.Data != "repaired" {
		return fmt.Errorf("the data partition: %s, %v", b.Data, r.Faults)
	}
	if err := t.images(ctx, b); err != nil {
		return err
	}
	if r.Rows, err = t.rows(ctx); err != nil {
		return err
	}
	if b.Version == string(t.running) {
		return nil
	}
	// The new version runs: it is the old one for the next cut.
	if err := t.accept(ctx); err != nil {
		return err
	}
	t.running = layout.Version(b.Version)
	file, err := t.File("stick")
	if err != nil {
		return err
	}
	return t.offerLater(ctx, file)
}

// accept ends the trial of the image that runs, which may have been good enough
// for the box by itself meanwhile.
func (t *Target) accept(ctx context.Context) error {
	said, err := t.Console.Do(ctx, "image accept")
	if err != nil {
		return err
	}
	b, err := t.box(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(b.Images, func(i control.Image) bool { return i.Running && i.State == "accepted" }) {
		return fmt.Errorf("accept %s: %s: %+v", b.Version, said, b.Images)
	}
	return nil
}

// images demands that what the loader could start is whole, that exactly one
// runs, and that it is the old or the new one.
func (t *Target) images(ctx context.Context, b control.Box) error {
	running := 0
	for _, i := range b.Images {
		if i.Running {
			running++
		}
		if i.State == "failed" {
			return fmt.Errorf("version %s is given up after a power cut: %s %v", i.Version, i.Reason.Code, i.Reason.Args)
		}
	}
	if running != 1 || b.Version != string(t.running) && b.Version != string(t.next) {
		return fmt.Errorf("%s runs, %d images say that they do; want %s or %s: %+v", b.Version, running, t.running, t.next, b.Images)
	}
	if err := t.Shell(ctx); err != nil {
		return err
	}
	out, err := t.Console.Do(ctx, "shasum -a 256 "+layout.EFIMount+"/"+layout.Images+"/*"+layout.ImageSuffix+" "+layout.EFIMount+"/"+layout.Rescue)
	if err != nil {
		return err
	}
	found := 0
	for _, sum := range regexp.MustCompile(`(?m)^[0-9a-f]{64}`).FindAllString(out, -1) {
		if !t.digests[sum] {
			return fmt.Errorf("an image is there by half:\n%s", out)
		}
		found++
	}
	if found != len(b.Images)+1 {
		return fmt.Errorf("%d images are told, and rescue, but there are:\n%s", len(b.Images), out)
	}
	return t.Leave(ctx)
}

// rows demands every acknowledged one, and counts them. One more may be there:
// its answer was cut off.
func (t *Target) rows(ctx context.Context) (int, error) {
	conn, err := t.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	var count, last int64
	if err := conn.QueryRow(ctx, "select count(*), coalesce(max(id), 0) from entry").Scan(&count, &last); err != nil {
		return 0, fmt.Errorf("count the rows: %w", err)
	}
	if count < t.acked || count != last || count > t.acked+1 {
		return 0, fmt.Errorf("%d rows up to id %d are there, %d were acknowledged", count, last, t.acked)
	}
	promised := t.acked
	t.acked = count
	return int(promised), nil
}

// connect waits for the database.
func (t *Target) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	conn, err := t.Connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("the database: %w; the console says:\n%s", err, t.Console.Tail(20))
	}
	return conn, nil
}

func (t *Target) box(ctx context.Context) (control.Box, error) {
	var b control.Box
	out, err := t.Console.Do(ctx, "show box --json")
	if err != nil {
		return b, err
	}
	// Notices of alarms may stand before and behind the answer.
	if err := json.NewDecoder(strings.NewReader(out[max(0, strings.Index(out, "{")):])).Decode(&b); err != nil {
		return b, fmt.Errorf("show box --json: %w:\n%s", err, out)
	}
	return b, nil
}

// login logs in at the console with the password that is promised, or with the
// one that was being set; the box decided which.
func (t *Target) login(ctx context.Context) error {
	for _, password := range []string{t.password, t.asked} {
		if password == "" {
			continue
		}
		if err := t.Console.Send("admin"); err != nil {
			return err
		}
		if _, err := t.Console.Expect(ctx, askPassword); err != nil {
			return err
		}
		if err := t.Console.Send(password); err != nil {
			return err
		}
		match, err := t.Console.Expect(ctx, answer)
		if err != nil {
			return err
		}
		if prompt.MatchString(match[0]) {
			t.password, t.asked = password, ""
			_, err := t.Console.Do(ctx, "console language en")
			return err
		}
	}
	return errors.New("the administrator's password is lost:\n" + t.Console.Tail(10))
}

// changePassword sets a new one; without wait, the answer isn't awaited.
func (t *Target) changePassword(ctx context.Context, password string, wait bool) error {
	for _, x := range []struct {
		send string
		then *regexp.Regexp
	}{{"administrator", newPassword}, {password, again}, {password, prompt}} {
		if x.then == prompt {
			t.asked = password
		}
		if err := t.Console.Send(x.send); err != nil {
			return err
		}
		if x.then == prompt && !wait {
			return nil
		}
		if _, err := t.Console.Expect(ctx, x.then); err != nil {
			return err
		}
	}
	t.password, t.asked = password, ""
	return nil
}

// offer makes the next version and the stick that brings it.
func (t *Target) offer(ctx context.Context, stick string) error {
	t.next = successor(t.running)
	efi, bundle := filepath.Join(t.dir, "next.efi"), filepath.Join(t.dir, "next.kmb")
	if err := boxes.Version(ctx, efi, t.next, boxes.Good); err != nil {
		return err
	}
	if err := t.whole(efi); err != nil {
		return err
	}
	if err := boxes.Bundle(ctx, bundle, efi, t.next, t.running, ""); err != nil {
		return err
	}
	return scene.Stick(stick, map[string]string{layout.ImagePrefix + string(t.next) + ".kmb": bundle})
}

// offerLater puts another stick in the place of the one that is plugged in.
func (t *Target) offerLater(ctx context.Context, file string) error {
	if err := t.Unplug(ctx, "stick"); err != nil {
		return err
	}
	if err := os.Remove(file); err != nil {
		return err
	}
	if err := t.offer(ctx, file); err != nil {
		return err
	}
	return t.Plug(ctx, "stick")
}

// successor is the version after v that only this package makes.
func successor(v layout.Version) layout.Version {
	parts := strings.Split(string(v), ".")
	var n int
	if len(parts) < 6 {
		return v + ".1"
	}
	_, _ = fmt.Sscan(parts[5], &n) // a version has numbers only
	return layout.Version(strings.Join(append(parts[:5:5], fmt.Sprint(n+1)), "."))
}

// whole remembers the digest of an image.
func (t *Target) whole(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	t.digests[hex.EncodeToString(sum.Sum(nil))] = true
	return nil
}

func version(efi string) (layout.Version, error) {
	f, err := os.Open(efi)
	if err != nil {
		return "", err
	}
	defer f.Close()
	image, err := uki.Read(f)
	if err != nil {
		return "", err
	}
	return image.Version, nil
}
