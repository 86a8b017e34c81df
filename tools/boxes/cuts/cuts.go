// Package cuts takes the power away from a running box at moments that a seed
// decides, and then asks it for everything that it had promised: it starts,
// nothing that was acknowledged is lost, no image is there by half. The disk
// loses what was not flushed (tools/boxes/nbd). Start reading at New and
// Target.Run.
package cuts

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"komainu/images/layout"
	"komainu/tools/boxes"
	"komainu/tools/boxes/nbd"
	"komainu/tools/boxes/scene"
)

// Kind says what the box does when its power goes.
type Kind string

// The kinds.
const (
	Update Kind = "update" // an installation, the restart behind it or the trial's start
	Writes Kind = "writes" // rows into the database, a new password
	Start  Kind = "start"  // the start itself
)

// Kinds is all of them, in the order in which a series takes them.
func Kinds() []Kind { return []Kind{Update, Writes, Start} }

// Result is one cut and what the box was like afterwards.
type Result struct {
	Seed    uint64   `json:"seed"`
	Kind    Kind     `json:"kind"`
	Moment  string   `json:"moment"`
	Loss    nbd.Loss `json:"loss"` // of the disk's last writes
	BootS   float64  `json:"boot_s"`
	Rows    int      `json:"rows"` // acknowledged so far, all found
	Data    string   `json:"data"` // what PID 1 says of the data partition
	Version string   `json:"version"`
	Before  string   `json:"before"`           // the version that ran at the cut, or would have
	Faults  []string `json:"faults,omitempty"` // that PID 1 tells
}

// Bounds of a box on a busy machine.
const (
	bootLimit = 6 * time.Minute
	cutLimit  = 15 * time.Minute
)

// installRequests is how many of the disk an installation takes, roughly: what
// a seed's share is taken of.
const installRequests = 300

// quiet is how long a moment is waited for: a box that has done everything
// sooner is cut then.
const quiet = time.Minute

// Target is a box that is cut again and again. It is driven by one goroutine.
type Target struct {
	*scene.Scene
	dir      string
	acked    int64           // rows 1 to acked are promised
	password string          // is promised
	asked    string          // was typed, without an answer; "": nothing
	running  layout.Version  // accepted
	next     layout.Version  // on the stick
	digests  map[string]bool // SHA-256 of images that are whole
	requests int             // of the disk, in a start
	cable    net.Conn        // of the client that wrote until the cut; nil: none
}

// New makes a target and starts it. The caller closes it.
func New(ctx context.Context, name string) (t *Target, err error) {
	from, err := scene.Installed(ctx)
	if err != nil {
		return nil, err
	}
	t = &Target{password: scene.Password, digests: map[string]bool{}}
	if t.dir, err = os.MkdirTemp("", "komainu-cuts-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make a box to cut: %w", err), t.Close())
			t = nil
		}
	}()
	image, err := boxes.BuildImage(ctx)
	if err != nil {
		return t, err
	}
	own := filepath.Join(filepath.Dir(image), "komainu.efi")
	if t.running, err = version(own); err != nil {
		return t, err
	}
	if err := t.whole(own); err != nil {
		return t, err
	}
	stick := filepath.Join(t.dir, "stick.img")
	if err := t.offer(ctx, stick); err != nil {
		return t, err
	}
	t.Scene, err = scene.New(ctx, name, from, boxes.Options{Watchdog: true, Disks: []boxes.Disk{{Name: "stick", From: stick, Bus: boxes.USB, Plain: true}}})
	if err != nil {
		return t, err
	}
	if _, err := t.PowerOn(ctx); err != nil {
		return t, err
	}
	t.requests = int(t.Requests(system)) //nolint:gosec // some thousands
	return t, t.login(ctx)
}

// moment waits until the disk has served n more requests, or for the box to be
// quiet.
func (t *Target) moment(ctx context.Context, n int) error {
	bound, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	err := t.Served(bound, system, uint64(n)) //nolint:gosec // not negative
	if bound.Err() != nil && ctx.Err() == nil {
		return nil
	}
	return err
}

// Close ends the box.
func (t *Target) Close() error {
	var err error
	if t.Scene != nil {
		err = t.Scene.Close()
	}
	return errors.Join(err, os.RemoveAll(t.dir))
}

// Run cuts the power of the running box once. The seed decides when, and what
// the disk loses. An error says which promise was broken; the box can't be used
// for another cut then.
func (t *Target) Run(ctx context.Context, seed uint64, kind Kind) (r Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, cutLimit)
	defer cancel()
	r = Result{Seed: seed, Kind: kind, Before: string(t.running)}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cut %d during %s (%s): %w", seed, kind, r.Moment, err)
		}
	}()
	rng := rand.New(rand.NewPCG(seed, 0x63757473))
	switch kind {
	case Update:
		r.Moment, err = t.update(ctx, rng)
	case Writes:
		r.Moment, err = t.writes(ctx, rng)
	case Start:
		r.Moment, err = t.start(ctx, rng)
	default:
		err = errors.New("unknown kind")
	}
	if err != nil {
		return r, err
	}
	r.Loss, err = t.PowerCut(seed)
	if t.cable != nil { // not before: a client that says good-bye is no power cut
		err = errors.Join(err, t.cable.Close())
		t.cable = nil
	}
	if err != nil {
		return r, err
	}
	return r, t.verify(ctx, &r)
}

// update is cut in the installation, or from its end on: the restart, the boot
// loader's names, the new image's first start.
func (t *Target) update(ctx context.Context, rng *rand.Rand) (string, error) {
	n := rng.IntN(installRequests)
	later := rng.IntN(5) < 2
	if err := t.Console.Send("image install usb: --restart yes"); err != nil {
		return "", err
	}
	if !later {
		return fmt.Sprintf("%d requests after the order to install", n), t.moment(ctx, n)
	}
	if _, err := t.Console.Expect(ctx, installed); err != nil {
		return "", err
	}
	n = rng.IntN(t.requests * 5 / 4)
	return fmt.Sprintf("installed, %d requests later", n), t.moment(ctx, n)
}

// writes is cut when a number of rows is acknowledged, or a few requests later,
// half of the times while a new password is being set too.
func (t *Target) writes(ctx context.Context, rng *rand.Rand) (string, error) {
	rows, late := 1+rng.IntN(150), rng.IntN(12)
	password := fmt.Sprintf("komainu-%d", rng.Uint32())
	halfway := rng.IntN(2) == 0
	if !halfway {
		if err := t.changePassword(ctx, password, true); err != nil {
			return "", err
		}
	}
	conn, err := t.connect(ctx)
	if err != nil {
		return "", err
	}
	t.cable = conn.PgConn().Conn()
	for range rows {
		if err := t.insert(ctx, conn); err != nil {
			return "", err
		}
	}
	if halfway {
		if err := t.changePassword(ctx, password, false); err != nil {
			return "", err
		}
	}
	moment := fmt.Sprintf("%d rows acknowledged, %d requests later", rows, late)
	if late == 0 && !halfway {
		return moment, nil
	}
	// Writing goes on until the disk has had enough.
	enough := make(chan error, 1)
	go func() { enough <- t.moment(ctx, late) }()
	for {
		select {
		case err := <-enough:
			return moment, err
		default:
		}
		if err := t.insert(ctx, conn); err != nil {
			return moment, errors.Join(err, <-enough)
		}
	}
}

// insert writes the next row. An id that was tried and not answered is never
// used again, since it may be there.
func (t *Target) insert(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "insert into entry values ($1, $2)", t.acked+1, "a line of the resident register"); err != nil {
		return fmt.Errorf("insert row %d: %w", t.acked+1, err)
	}
	t.acked++
	return nil
}

// start is cut first as it stands, and then while it starts.
func (t *Target) start(ctx context.Context, rng *rand.Rand) (string, error) {
	if _, err := t.PowerCut(rng.Uint64()); err != nil {
		return "", err
	}
	if err := t.Start(ctx); err != nil {
		return "", err
	}
	n := rng.IntN(t.requests * 5 / 4)
	return fmt.Sprintf("%d requests after power-on", n), t.moment(ctx, n)
}
