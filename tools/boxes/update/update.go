// Package update gives a booted box new versions of its image, good ones and bad
// ones, as an operator at its serial line does, and says what became of them.
// Start reading at Run.
package update

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"komainu/appliance/control"
	"komainu/images/layout"
	"komainu/images/uki"
	"komainu/tools/boxes"
	"komainu/tools/boxes/scene"
)

// Result is what became of a new version.
type Result struct {
	Fault   boxes.Fault    `json:"fault"`
	Version layout.Version `json:"version"`
	// Back: the box runs the version that it ran before, without anybody's help,
	// and says that the new one failed.
	Back bool `json:"back"`
	// Shown is the sentence of show box about the new version.
	Shown string `json:"shown"`
	// Starts of the machine from the order to restart to the verdict.
	Starts int `json:"starts"`
	// Took is from the order to restart to the verdict: the login of the old
	// version, or the acceptance of the new one.
	Took time.Duration `json:"took_ns"`
}

// Good installs a version without a fault from a stick and restarts: the box
// must keep it. It takes about two minutes on two idle cores.
func Good(ctx context.Context) (Result, error) { return Run(ctx, boxes.Good) }

// Broken installs a version with the fault and restarts: the box must come back,
// name the version and the reason everywhere, not try it again at the next
// restart, and refuse to install it again unless it is told to.
func Broken(ctx context.Context, fault boxes.Fault) (Result, error) { return Run(ctx, fault) }

// Faults is every way in which a version is bad.
func Faults() []boxes.Fault {
	return []boxes.Fault{boxes.NoRoot, boxes.Panic, boxes.Hang, boxes.Agent, boxes.Network}
}

// Run does Good or Broken. An error says what the box did otherwise.
func Run(ctx context.Context, fault boxes.Fault) (r Result, err error) {
	name := string(fault)
	if name == "" {
		name = "good"
	}
	r.Fault = fault
	b, err := newBox(ctx, "update-"+name, fault)
	if err != nil {
		return r, fmt.Errorf("a box to update (%s): %w", name, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("update to a version (%s): %w; the console's last lines:\n%s", name, err, b.Console.Tail(20))
		}
		err = errors.Join(err, b.close())
	}()
	r.Version = b.next
	if err := b.install(ctx); err != nil {
		return r, err
	}
	if err := b.Console.Send("restart"); err != nil {
		return r, err
	}
	began := time.Now()
	if fault == boxes.Good {
		err = b.accepted(ctx, &r)
	} else {
		err = b.returned(ctx, &r)
	}
	r.Took = time.Since(began)
	if err != nil {
		return r, err
	}
	if fault == boxes.Good {
		return r, nil
	}
	if err := b.told(ctx); err != nil {
		return r, err
	}
	return r, b.notAgain(ctx)
}

// box is a running one and its next version.
type box struct {
	*scene.Scene
	dir       string
	old, next layout.Version
}

// newBox makes a box with a stick that holds the next version, starts it and
// waits until it serves.
func newBox(ctx context.Context, name string, fault boxes.Fault) (b *box, err error) {
	b = &box{}
	if b.dir, err = os.MkdirTemp("", "komainu-update-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
			b = nil
		}
	}()
	from, err := scene.Installed(ctx)
	if err != nil {
		return b, err
	}
	newest, err := imageVersion(ctx)
	if err != nil {
		return b, err
	}
	b.next = newest + ".1"
	bundle, err := b.bundle(ctx, b.next, fault)
	if err != nil {
		return b, err
	}
	stick := filepath.Join(b.dir, "stick.img")
	if err := scene.Stick(stick, map[string]string{filepath.Base(bundle): bundle}); err != nil {
		return b, err
	}
	if err := b.start(ctx, name, from, stick); err != nil {
		return b, err
	}
	return b, nil
}

// start gives power to a box with a stick, and learns its version.
func (b *box) start(ctx context.Context, name, from, stick string) (err error) {
	b.Scene, err = scene.New(ctx, name, from, boxes.Options{Watchdog: true, Disks: []boxes.Disk{{Name: "stick", From: stick, Bus: boxes.USB, Plain: true}}})
	if err != nil {
		return err
	}
	if _, err := b.PowerOn(ctx); err != nil {
		return err
	}
	if err := b.Login(ctx); err != nil {
		return err
	}
	if err := b.serves(ctx); err != nil {
		return err
	}
	x, err := b.box(ctx)
	b.old = layout.Version(x.Version)
	return err
}

func (b *box) close() error {
	var err error
	if b.Scene != nil {
		err = b.Scene.Close()
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

// bundle makes a signed bundle of the version, under the name that boxes look for.
func (b *box) bundle(ctx context.Context, v layout.Version, fault boxes.Fault) (string, error) {
	efi, bundle := filepath.Join(b.dir, "next.efi"), filepath.Join(b.dir, layout.ImagePrefix+string(v)+".kmb")
	return bundle, errors.Join(boxes.Version(ctx, efi, v, fault), boxes.Bundle(ctx, bundle, efi, v, "1", ""))
}

// imageVersion is that of the built image.
func imageVersion(ctx context.Context) (layout.Version, error) {
	image, err := boxes.BuildImage(ctx)
	if err != nil {
		return "", err
	}
	f, err := os.Open(filepath.Join(filepath.Dir(image), "komainu.efi"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	in, err := uki.Read(f)
	if err != nil {
		return "", err
	}
	return in.Version, nil
}

// serves waits until the database answers the client.
func (b *box) serves(ctx context.Context) error {
	conn, err := b.Connect(ctx)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// box is what show box says.
func (b *box) box(ctx context.Context) (x control.Box, err error) {
	out, err := b.Console.Do(ctx, "show box --json")
	if err != nil {
		return x, err
	}
	// What happens meanwhile is told on lines of its own.
	if err := json.Unmarshal(regexp.MustCompile(`(?m)^!.*$`).ReplaceAll([]byte(out), nil), &x); err != nil {
		return x, fmt.Errorf("show box --json: %w:\n%s", err, out)
	}
	return x, nil
}

// image is the box's entry about a version; zero: there is none.
func image(x control.Box, v layout.Version) control.Image {
	for _, i := range x.Images {
		if i.Version == string(v) {
			return i
		}
	}
	return control.Image{}
}

// install takes the next version from the stick and looks for every step's word.
func (b *box) install(ctx context.Context) error {
	out, err := b.Console.Do(ctx, "image install usb:")
	if err != nil {
		return err
	}
	for _, want := range []string{"opening usb:", "writing the image", "reading it back", "100 %", "version " + string(b.next) + " is installed"} {
		if !strings.Contains(joined(out), want) {
			return fmt.Errorf("image install doesn't say %q:\n%s", want, out)
		}
	}
	return nil
}

var (
	firmware = regexp.MustCompile(`BdsDxe: starting Boot`)
	// one version that failed, and that nothing newer has overcome
	oneFailed = regexp.MustCompile(`(?m)^komainu_box_failed_number(\{[^}]*\})? 1$`)
	login     = regexp.MustCompile(`login: \z`)
)

// restarted waits until somebody can log in again, and does.
func (b *box) restarted(ctx context.Context) (starts int, err error) {
	if _, err := b.Event(ctx, "RESET"); err != nil {
		return 0, err
	}
	either := regexp.MustCompile(firmware.String() + `|` + login.String())
	for {
		match, err := b.Console.Expect(ctx, either)
		if err != nil {
			return starts, err
		}
		if firmware.MatchString(match[0]) {
			starts++
			continue
		}
		if starts > 0 { // else the login prompt of what is just ending
			return starts, b.Login(ctx)
		}
	}
}

// accepted waits until the new version runs and is kept.
func (b *box) accepted(ctx context.Context, r *Result) error {
	var err error
	if r.Starts, err = b.restarted(ctx); err != nil {
		return err
	}
	for {
		x, err := b.box(ctx)
		if err != nil {
			return err
		}
		i := image(x, b.next)
		if x.Version != string(b.next) || !i.Running {
			return fmt.Errorf("version %s runs, not %s", x.Version, b.next)
		}
		if i.State == "accepted" && x.Trial == nil {
			break
		}
		if err := pause(ctx, time.Second); err != nil { // the box tells nobody who doesn't ask
			return err
		}
	}
	r.Shown, err = b.shown(ctx)
	return errors.Join(err, b.serves(ctx))
}

// returned waits until the old version runs again.
func (b *box) returned(ctx context.Context, r *Result) error {
	for {
		n, err := b.restarted(ctx)
		r.Starts += n
		if err != nil {
			return err
		}
		x, err := b.box(ctx)
		if err != nil {
			return err
		}
		if x.Version == string(b.old) {
			i := image(x, b.next)
			if i.State != "failed" || i.Reason.Code == "" {
				return fmt.Errorf("the box is back, but of version %s it says %q, reason %q", b.next, i.State, i.Reason.Code)
			}
			break
		}
		if x.Trial == nil {
			return fmt.Errorf("version %s runs without being on trial", x.Version)
		}
	}
	r.Back = true
	var err error
	r.Shown, err = b.shown(ctx)
	return errors.Join(err, b.serves(ctx))
}

// shown is what people read about the new version.
func (b *box) shown(ctx context.Context) (string, error) {
	out, err := b.Console.Do(ctx, "image list")
	if err != nil {
		return "", err
	}
	for part := range strings.SplitSeq(joined(out), "version ") {
		if strings.HasPrefix(part, string(b.next)+":") {
			return strings.TrimSpace(part), nil
		}
	}
	return "", fmt.Errorf("image list doesn't name %s:\n%s", b.next, out)
}

// told demands the failed version on the banner, in the metrics, in the journal.
func (b *box) told(ctx context.Context) error {
	text := b.Console.Text()
	if banner := text[strings.LastIndex(text, "BdsDxe: starting"):]; !strings.Contains(banner, string(b.next)) {
		return fmt.Errorf("the banner before the login doesn't name the failed version:\n%s", banner)
	}
	if err := b.monitored(ctx); err != nil {
		return err
	}
	if err := b.Shell(ctx); err != nil {
		return err
	}
	journal, err := b.Console.Do(ctx, "grep -c box-given-up.*"+string(b.next)+" "+layout.State+"/journal.ndjson")
	if err != nil {
		return err
	}
	if n := strings.TrimSpace(journal); n != "1" {
		err = fmt.Errorf("the journal tells of the failed version %s times, not once", n)
	}
	return errors.Join(err, b.Leave(ctx))
}

// noticed is how long the agent may take to see what PID 1 says.
const noticed = 90 * time.Second

// monitored waits until the health endpoint counts a failed version.
func (b *box) monitored(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, noticed)
	defer cancel()
	for {
		metrics, err := b.get(ctx, "/metrics")
		if err != nil || oneFailed.MatchString(metrics) {
			return err
		}
		if err := pause(ctx, time.Second); err != nil { // monitoring asks again and again
			return fmt.Errorf("/metrics counts no failed version: %w", err)
		}
	}
}

// get asks the box's health endpoint from the client, until it has an answer.
func (b *box) get(ctx context.Context, path string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return b.Client.Dial(ctx, network, addr)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+scene.Health+path, nil)
	if err != nil {
		return "", err
	}
	for {
		resp, err := client.Do(req)
		if err == nil {
			body, err := io.ReadAll(resp.Body)
			return string(body), errors.Join(err, resp.Body.Close())
		}
		if e := pause(ctx, time.Second); e != nil {
			return "", errors.Join(e, err)
		}
	}
}

// notAgain: the failed version is refused, and not started by a restart.
func (b *box) notAgain(ctx context.Context) error {
	out, err := b.Console.Do(ctx, "image install usb:")
	if err != nil {
		return err
	}
	if !strings.Contains(joined(out), "failed here") {
		return fmt.Errorf("the failed version isn't refused:\n%s", out)
	}
	if err := b.Console.Send("restart"); err != nil {
		return err
	}
	if n, err := b.restarted(ctx); err != nil || n != 1 {
		return fmt.Errorf("a later restart took %d starts: %w", n, err)
	}
	x, err := b.box(ctx)
	if err == nil && x.Version != string(b.old) {
		err = fmt.Errorf("a later restart started %s", x.Version)
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
