package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/files"
	"komainu/drivers/privilege"
	"komainu/drivers/units"
	"komainu/drivers/vici"
	"komainu/images/layout"
)

// charonUnit is strongSwan's IKE daemon, without a tunnel of its own: the agent
// gives it some. It is ready when it answers at RUN/charon.vici.
func (d folders) charonUnit(self string, env []string) units.Unit {
	return units.Unit{Name: "charon", Argv: []string{self, "charon", "--run", d.run}, Env: env, Dir: "/",
		Restart: true, StopTimeout: 10 * time.Second, Memory: 256 << 20, Tasks: 64, Ready: d.charonSocket()}
}

func (d folders) charonSocket() string { return filepath.Join(d.run, "charon.vici") }

// charonMain becomes charon: `komainu charon --run DIR`. For charon DIR is /run,
// which it can't be told to leave (charon.c: PID_FILE), so that several boxes of
// a lab have one each, and none is kept from starting by the number of a process
// that was killed. It keeps only what IKE and the kernel's IPsec need.
func charonMain(_ context.Context, args []string, _ io.Writer) error {
	f, d := flags("charon")
	if err := f.Parse(args); err != nil {
		return err
	}
	if err := files.Replace(filepath.Join(d.run, "strongswan.conf"), []byte(vici.Daemon(vici.Settings{Socket: "/run/charon.vici"})), 0o644); err != nil {
		return err
	}
	for _, name := range []string{"charon.pid", "charon.vici"} { // of one that was killed
		if err := os.Remove(filepath.Join(d.run, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// Namespaces belong to the thread; execve(2) ends the others.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mounts of its own for charon: %w (it needs root)", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts of its own for charon: %w", err)
	}
	if err := unix.Mount(d.run, "/run", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("%s as charon's /run: %w", d.run, err)
	}
	if _, err := privilege.Cut(privilege.BindService | privilege.NetAdmin | privilege.NetRaw); err != nil {
		return err
	}
	env := append(os.Environ(), "STRONGSWAN_CONF=/run/strongswan.conf")
	return fmt.Errorf("%s: %w (apt: strongswan-charon)", layout.Charon, unix.Exec(layout.Charon, []string{layout.Charon, "--use-syslog", "no"}, env))
}
