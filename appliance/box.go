package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"

	"komainu/appliance/config"
	"komainu/appliance/control"
	"komainu/appliance/pid1"
	"komainu/appliance/pid1/machine"
	"komainu/appliance/update"
	"komainu/drivers/blockdev"
	"komainu/drivers/uevents"
	"komainu/drivers/units"
	"komainu/images/layout"
)

// imageBox is the supervisor's side of an image: what runs, what PID 1 tells, how a
// box gets its configuration and its next version.
type imageBox struct {
	started
	folders
	log      *slog.Logger
	facts    machine.Facts
	root     blockdev.Root
	images   *update.Box
	pid1     control.Client
	site     update.Site
	problems []control.Reason // of the start, beside what PID 1 found

	mu        sync.Mutex
	terminals []string // that have a console
	looked    looked
	changes   int // of disks, so that a look that ran meanwhile isn't kept
}

// looked is what the disks held at a moment: the agent asks every few seconds,
// and a look reads from each disk, also from one that sleeps or fails.
type looked struct {
	disks []control.Disk
	err   error
	at    time.Time // zero: look again
}

// exit is an exit status that main passes on without a word.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// imageMain is the supervisor of an image, PID 1's one child.
func imageMain(ctx context.Context, d folders) error {
	log := slog.New(slog.NewTextHandler(kernelLog{}, nil))
	st, err := readStarted()
	if err != nil {
		log.Error("start", "error", err)
		// Not known whether anything is kept: say the worse.
		st.Found.Data = "none"
		st.Found.Faults = append(st.Found.Faults, control.Reason{Code: "box-unread", Args: []string{"start", err.Error()}})
	}
	b := &imageBox{started: st, folders: d, log: log, facts: machine.Read("/sys"), root: blockdev.Root{Sys: "/sys", Dev: "/dev"},
		pid1: control.Client{Socket: filepath.Join(d.run, "pid1.sock")}}
	b.site = update.Site{Root: layout.EFIMount, Run: d.run, Keys: layout.Keys, Config: d.config, State: d.state,
		Check: func(data []byte, secrets []string) (string, error) {
			name, err := checkSite(data)
			if err != nil {
				return "", err
			}
			return name, checkSecrets(data, secrets)
		}}
	b.firstSite()
	keeper, err := d.keeper(b.units)
	if err == nil {
		err = keeper.Start(ctx)
	}
	if err != nil {
		log.Error("configuration", "error", err) // what stands there is used
	}
	client := units.Client{Socket: b.pid1.Socket}
	b.images, err = update.Open(update.Config{
		Root: layout.EFIMount, State: d.state, Run: d.run, Keys: layout.Keys, Program: layout.Program,
		Version: st.Found.Build.Version, Loader: st.Loader, Last: st.Last, CA: b.authority,
		Writable: update.Remount(layout.EFIMount), World: b.world(), Units: client,
		Disks:   b.disks,
		Restart: b.restart, Wall: time.Now, Log: log,
	})
	if err != nil {
		log.Error("images", "error", err)
		b.problems = append(b.problems, control.Reason{Code: "box-images-unread", Args: []string{err.Error()}})
	}
	devices, err := uevents.Listen()
	if err != nil {
		log.Error("devices", "error", err) // what is plugged in later has no console
	}
	tasks, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() {
		if err := b.images.Run(tasks); err != nil && tasks.Err() == nil {
			log.Error("trial of the image", "error", err)
		}
	})
	more := append(b.images.Routes(), b.route())
	if keeper != nil {
		running.Go(func() { _ = keeper.Run(tasks) }) // ends with its context alone
		more = append(more, keeper.Routes()...)
	}
	inputs := make(chan struct{}, 1)
	if devices != nil {
		running.Go(func() { b.watchDevices(tasks, devices, inputs, client) })
	}
	running.Go(func() { b.powerButton(tasks, inputs) })
	code, err := pid1.SuperviseImage(ctx, pid1.Options{
		Run: d.run, State: d.state, Log: log, Units: append(b.terminalUnits(), b.units()...),
		More:   more,
		Before: b.beforeEnd,
	})
	stop()
	running.Wait()
	if err != nil {
		log.Error("supervise", "error", err)
	}
	if code == 0 {
		return nil
	}
	return exit(code)
}

// units of an image, in the order of their start. Without a configuration there
// is charon, which does nothing yet, and the consoles; in rescue only these.
func (b *imageBox) units() []units.Unit {
	if b.Found.Rescue {
		return nil
	}
	all := []units.Unit{b.charonUnit(layout.Program, environment)}
	if _, err := os.Stat(b.config); errors.Is(err, fs.ErrNotExist) {
		return all
	}
	all = append(all, b.unit("agent", 512<<20, "agent.sock"))
	// With a file that can't be read, it tells so until that is mended.
	file, err := config.Load(b.config)
	if err != nil || file.NTP != nil {
		all = append(all, b.unit("timed", 128<<20, "timed.sock"))
	}
	if err == nil && len(file.Console.SSH) > 0 {
		ssh := b.unit("ssh", 256<<20, "")
		ssh.Ready = "" // its addresses may be missing for long
		all = append(all, ssh)
	}
	return all
}

// unit is an applet of ours.
func (b *imageBox) unit(name string, memory int64, socket string) units.Unit {
	return units.Unit{Name: name, Argv: []string{layout.Program, name, "--config", b.config, "--state", b.state, "--run", b.run},
		Env: environment, Dir: "/", Restart: true, StopTimeout: 10 * time.Second, Memory: memory, Tasks: 256, Ready: filepath.Join(b.run, socket)}
}

// checkSite gives the name of the site in a configuration that is valid.
func checkSite(data []byte) (string, error) {
	f, problems := config.Parse("komainu.toml", data)
	if len(problems) > 0 {
		return "", problems
	}
	return f.Site.Name, nil
}

// checkSecrets demands every secret that the configuration names, in any value.
func checkSecrets(data []byte, have []string) error {
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		return err
	}
	return checkValue(tree, have)
}

func checkValue(v any, have []string) error {
	var errs []error
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			errs = append(errs, checkValue(v[key], have))
		}
	case []any:
		for _, x := range v {
			errs = append(errs, checkValue(x, have))
		}
	case string:
		if name, ok := strings.CutPrefix(v, "secret:"); ok && !slices.Contains(have, name) {
			return fmt.Errorf("the configuration names secret:%s, which the bundle doesn't bring", name)
		}
	}
	return errors.Join(errs...)
}

// authority is the file of the authority that servers of images are proved by.
func (b *imageBox) authority() string {
	file, err := config.Load(b.config)
	if err != nil || file.Image.CA == "" {
		return ""
	}
	w := &wiring{folders: b.folders, file: file, secrets: b.secrets()}
	path, err := w.path(file.Image.CA)
	if err != nil {
		b.log.Error("authority of images", "error", err)
	}
	return path
}

func (b *imageBox) world() update.World {
	return update.World{
		Agent: control.Client{Socket: filepath.Join(b.run, "agent.sock")}, Time: control.Client{Socket: filepath.Join(b.run, "timed.sock")},
		Units: b.statuses, Sys: "/sys",
		Console: func() bool {
			b.mu.Lock()
			none := len(b.terminals) == 0
			b.mu.Unlock()
			return none || slices.ContainsFunc(b.statuses(), func(u units.Status) bool { return u.Running && strings.HasPrefix(u.Name, "serial-") })
		},
	}
}

// statuses are those of all units; none when the own socket doesn't answer yet.
func (b *imageBox) statuses() []units.Status {
	ctx, done := context.WithTimeout(context.Background(), 2*time.Second)
	defer done()
	var all []units.Status
	if err := b.pid1.Get(ctx, "/v1/units", &all); err != nil {
		b.log.Warn("units", "error", err)
	}
	return all
}

// lookedDisks are the disks as they were when one of them changed last, or a while ago.
func (b *imageBox) lookedDisks() ([]control.Disk, error) {
	b.mu.Lock()
	old, changes := b.looked, b.changes
	b.mu.Unlock()
	if time.Since(old.at) < lookAgain {
		return old.disks, old.err
	}
	began := time.Now()
	disks, err := b.disks()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changes == changes {
		b.looked = looked{disks, err, began}
	}
	return disks, err
}

// lookAgain is for what changes without an event, such as what is written.
const lookAgain = 10 * time.Minute

func (b *imageBox) disks() ([]control.Disk, error) { return machine.Disks(b.root, b.Found.Disk) }

// restart is for an image that is given up.
func (b *imageBox) restart(kind string, why control.Reason) {
	if err := pid1.RecordEnd(b.state, control.Reset{Kind: kind, Reason: why, At: time.Now()}); err != nil {
		b.log.Error("restart", "error", err)
	}
	ctx, done := context.WithTimeout(context.Background(), 10*time.Second)
	defer done()
	var reply control.Reply
	if err := b.pid1.Post(ctx, control.PowerPath, control.PowerOrder{Action: "restart", By: "komainu", Reason: why.Code}, &reply); err != nil {
		b.log.Error("restart", "error", err)
	}
}

// beforeEnd keeps what an image on trial, or one that waits, is judged by.
func (b *imageBox) beforeEnd(ctx context.Context, o control.PowerOrder) {
	if o.By == "komainu" {
		return // the trial is over
	}
	if err := b.images.BeforeRestart(ctx); err != nil {
		b.log.Error("images, before the restart", "error", err)
	}
}

// route answers control.BoxPath.
func (b *imageBox) route() control.Route {
	return control.Route{Pattern: "GET " + control.BoxPath, Role: control.Viewer, Handle: func(context.Context, *control.Request) (any, error) {
		return b.tell(), nil
	}}
}

func (b *imageBox) tell() control.Box {
	x := control.Box{
		Version: string(b.Found.Build.Version), Entry: b.Loader.Entry, Rescue: b.Found.Rescue, Model: b.facts.Model, Serial: b.facts.Serial,
		Booted: b.At, Memory: b.facts.Memory, Last: b.Last, Trial: b.images.Trial(), Data: b.Found.Data,
		Faults: append([]control.Reason{}, b.Found.Faults...),
	}
	b.mu.Lock()
	x.Faults = append(x.Faults, b.problems...)
	b.mu.Unlock()
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		x.UptimeS = float64(info.Uptime)
	}
	part := func(what string, err error) {
		if err != nil {
			x.Faults = append(x.Faults, control.Reason{Code: "box-unread", Args: []string{what, err.Error()}})
		}
	}
	var err error
	x.Images, err = b.images.Images()
	part("images", err)
	x.Disks, err = b.lookedDisks()
	part("disks", err)
	x.Ports, err = machine.Ports("/sys")
	part("ports", err)
	return x
}
