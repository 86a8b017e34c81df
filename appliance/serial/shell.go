package serial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/uart"
)

// shell runs argv on the terminal as its own session with job control, and
// returns when it ends. When ctx ends first the shell gets SIGHUP, as if the
// terminal had been pulled.
func (c *seat) shell(ctx context.Context, argv []string) (err error) {
	// A file of its own: ours doesn't wait, a shell's must.
	fd, err := unix.Open(c.path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("shell: open %s: %w", c.path, err)
	}
	tty := os.NewFile(uintptr(fd), c.path)
	defer func() { err = errors.Join(err, tty.Close()) }()
	if err := c.line.port.Cooked(c.line.search.Speed); err != nil {
		return err
	}
	// The end of the shell hangs the terminal up for everybody who has it open,
	// unless it is a pseudo terminal (kernel: disassociate_ctty): open it anew.
	defer func() {
		fresh, e := uart.Open(c.path, c.line.search.Speed)
		if e == nil {
			e = c.line.port.Close()
			c.line.port = fresh
		}
		err = errors.Join(err, e)
	}()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/bbin:/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/", "TERM=vt100", "LANG=C.UTF-8", "PS1=# "}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	hangUp := func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGHUP) }
	cmd.Cancel = hangUp
	cmd.WaitDelay = 2 * time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) || errors.Is(err, context.Canceled) {
		return nil // as a shell's last command ended
	}
	return err
}
