package update

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"time"

	"komainu/appliance/control"
	"komainu/drivers/units"
	"komainu/images/esp"
	"komainu/images/layout"
)

// Job is what the process of its own is told, as one line of JSON.
type Job struct {
	Order   control.ImageOrder        `json:"order"`
	Root    string                    `json:"root"` // of the EFI partition
	Remount bool                      `json:"remount"`
	Keys    string                    `json:"keys"`
	CA      string                    `json:"ca,omitempty"`
	Run     string                    `json:"run"` // where sticks are mounted
	Running string                    `json:"running"`
	Version layout.Version            `json:"version"` // of the running image
	Floor   layout.Version            `json:"floor,omitempty"`
	Failed  map[layout.Version]Failed `json:"failed,omitempty"`
	Disk    control.Disk              `json:"disk"` // of "to-disk"
}

// line is what the process answers: progress, or how it ended.
type line struct {
	control.ImageProgress
	Error *control.Error `json:"error,omitempty"`
	// Of a finished installation.
	Version layout.Version `json:"version,omitempty"`
	Floor   layout.Version `json:"floor,omitempty"`
}

const jobUnit = "image-job"

// Routes answer control.ImagePath.
func (b *Box) Routes() []control.Route {
	return []control.Route{{Pattern: "POST " + control.ImagePath, Role: control.Admin, Stream: b.order}}
}

func refuse(code string, args ...string) error { return &control.Error{Code: code, Args: args} }

func (b *Box) order(ctx context.Context, r *control.Request, send func(any) error) error {
	var o control.ImageOrder
	if err := r.Decode(&o); err != nil {
		return err
	}
	b.mu.Lock()
	onTrial, running, busy := b.trial != nil && !b.trial.ended, b.running, b.busy
	b.busy = true
	b.mu.Unlock()
	if busy {
		return refuse("image-busy")
	}
	defer func() {
		b.mu.Lock()
		b.busy = false
		b.mu.Unlock()
	}()
	b.c.Log.Info("order about images", "action", o.Action, "source", o.Source, "disk", o.Disk, "by", o.By, "asked", r.Peer.Name())
	switch {
	case o.Action == "accept" && !running.Counted:
		return refuse("image-no-trial")
	case o.Action == "accept":
		if err := b.accept(); err != nil {
			return partition(err)
		}
		return send(control.ImageProgress{Step: "image-step-accepted", Args: []string{string(running.Version)}, Done: true})
	case o.Action == "revert":
		return b.orderRevert(o, running, send)
	case o.Action == "install" && onTrial:
		return refuse("image-on-trial", string(running.Version))
	case o.Action == "install":
		return b.install(ctx, o, send)
	case o.Action == "to-disk":
		disk, err := b.disk(o.Disk)
		if err != nil {
			return err
		}
		_, err = b.job(ctx, Job{Order: o, Disk: disk}, send)
		return err
	}
	return &control.Error{Code: "bad-request", Args: []string{"action " + o.Action}, Status: 400}
}

// orderRevert goes back to the newest accepted image but the running one.
func (b *Box) orderRevert(o control.ImageOrder, running esp.Image, send func(any) error) error {
	all, err := esp.List(b.c.Root)
	if err != nil {
		return partition(err)
	}
	k := slices.IndexFunc(all, func(i esp.Image) bool { return !i.Counted && i.Name() != running.Name() })
	if k < 0 || running.Version == "" {
		return refuse("image-no-other")
	}
	if err := send(control.ImageProgress{Step: "image-step-revert", Args: []string{string(all[k].Version)}, Done: true}); err != nil {
		return err
	}
	if err := b.revert(control.Reason{Code: "image-failed-order", Args: []string{o.By}}); err != nil {
		return partition(err)
	}
	return nil
}

// install keeps what works now as what is asked of the new image, and lets the
// job write it.
func (b *Box) install(ctx context.Context, o control.ImageOrder, send func(any) error) error {
	if err := b.keepBaseline(ctx); err != nil {
		return refuse("image-no-record", err.Error())
	}
	done, err := b.job(ctx, Job{Order: o}, send)
	if err != nil {
		return err
	}
	b.mu.Lock()
	delete(b.state.Failed, done.Version)
	b.state.NextFloor = done.Floor
	err = b.state.write(b.c.State)
	b.mu.Unlock()
	if err != nil {
		return refuse("image-no-record", err.Error())
	}
	if err := send(done.ImageProgress); err != nil {
		return err
	}
	if o.Restart {
		b.c.Restart("order", control.Reason{Code: "image-restart", Args: []string{string(done.Version), o.By}})
	}
	return nil
}

// disk finds the disk to erase by its serial number; it must be the only one.
func (b *Box) disk(serial string) (control.Disk, error) {
	all, err := b.c.Disks()
	if err != nil {
		return control.Disk{}, refuse("disk-unread", err.Error())
	}
	var found []control.Disk
	for _, d := range all {
		if serial != "" && d.Serial == serial {
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 0:
		return control.Disk{}, refuse("disk-unknown", serial)
	case len(found) > 1:
		return control.Disk{}, refuse("disk-twice", serial)
	case found[0].System:
		return control.Disk{}, refuse("disk-system", serial)
	}
	return found[0], nil
}

// job runs a process of its own and passes its progress on; the last line, of
// success, is returned and not sent for an installation.
func (b *Box) job(ctx context.Context, j Job, send func(any) error) (line, error) {
	b.mu.Lock()
	j.Root, j.Remount, j.Keys, j.CA, j.Run, j.Version = b.c.Root, b.c.Writable != nil, b.c.Keys, b.authority(), b.c.Run, b.c.Version
	j.Running, j.Floor, j.Failed = b.running.Name(), b.state.Floor, b.state.Failed
	told, err := json.Marshal(j)
	b.mu.Unlock()
	if err != nil {
		return line{}, err
	}
	socket := filepath.Join(b.c.Run, jobUnit+".sock")
	ln, err := control.Listen(ctx, socket, 0o600)
	if err != nil {
		return line{}, err
	}
	u := units.Unit{Name: jobUnit, Argv: []string{b.c.Program, jobUnit, socket}, Env: []string{"PATH=/bin"}}
	if _, err := b.c.Units.Start(ctx, u); err != nil {
		return line{}, errors.Join(refuse("image-job-failed", err.Error()), ln.Close())
	}
	watching, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { // ends with the job or with this call
		defer close(ended)
		_, _ = b.c.Units.Wait(watching, jobUnit) // however it ended, nobody will come any more
		_ = ln.Close()                           // a second close is harmless
	}()
	last, err := b.follow(ctx, ln, told, send)
	cancel()
	<-ended
	// Whoever ordered may have gone: the job ends then, and has changed nothing.
	stop, done := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer done()
	if _, e := b.c.Units.Stop(stop, jobUnit); e != nil {
		err = errors.Join(err, e)
	}
	return last, err
}

// endTime is how long the supervisor may take to end the job.
const endTime = 40 * time.Second

// jobLog is where the job's last words are.
func (b *Box) jobLog() string { return filepath.Join(b.c.State, "log", jobUnit+".log") }

// follow talks with the job.
func (b *Box) follow(ctx context.Context, ln net.Listener, told []byte, send func(any) error) (line, error) {
	c, err := ln.Accept()
	if err != nil {
		return line{}, refuse("image-job-failed", "it ended at once: "+b.jobLog())
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // ends the reading below
	defer stop()
	defer c.Close() // the job sees it, and ends
	if _, err := c.Write(append(told, '\n')); err != nil {
		return line{}, refuse("image-job-failed", err.Error())
	}
	for d := json.NewDecoder(c); ; {
		var l line
		switch err := d.Decode(&l); {
		case errors.Is(err, io.EOF):
			return line{}, refuse("image-job-failed", "it ended in the middle: "+b.jobLog())
		case err != nil:
			return line{}, refuse("image-job-failed", err.Error())
		case l.Error != nil:
			return line{}, l.Error
		case l.Done && l.Version != "":
			return l, nil
		}
		if err := send(l.ImageProgress); err != nil || l.Done {
			return l, err
		}
	}
}

// partition gives an error about the EFI partition its sentence.
func partition(err error) error {
	var full *esp.RoomError
	var said *control.Error
	switch {
	case errors.As(err, &said):
		return err
	case errors.As(err, &full):
		return refuse("efi-full", fmt.Sprint((full.Need+1<<20-1)>>20), fmt.Sprint(full.Free>>20))
	case errors.Is(err, esp.ErrReadOnly):
		return refuse("efi-read-only", err.Error())
	case errors.Is(err, esp.ErrDamaged):
		return refuse("efi-damaged", err.Error())
	}
	return refuse("image-write", err.Error())
}

func (b *Box) authority() string {
	if b.c.CA == nil {
		return ""
	}
	return b.c.CA()
}
