package shell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"

	"komainu/drivers/postgres"
	"komainu/drivers/units"
)

// InitDatabase makes an empty cluster with the roles that the boxes need; the
// agent then runs it. It refuses to touch a data directory that exists.
func InitDatabase(ctx context.Context, d Database) (err error) {
	l := &children{running: map[string]*exec.Cmd{}, done: map[string]chan struct{}{}}
	cfg := d.Config
	cfg.Listen = nil // nobody else is let in meanwhile
	c := postgres.New(cfg, l)
	defer c.Close()
	if err := c.Init(ctx); err != nil {
		return err
	}
	if err := c.StartPrimary(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop(context.WithoutCancel(ctx), postgres.Fast)) }()
	if err := c.Promote(ctx); err != nil { // waits until a write has committed
		return err
	}
	return c.EnsureRoles(ctx, d.Password, d.Probe)
}

// children is a launcher without a supervisor, for the moments of InitDatabase.
type children struct {
	running map[string]*exec.Cmd
	done    map[string]chan struct{}
}

func (l *children) Start(_ context.Context, u units.Unit) error {
	cmd := exec.Command(u.Argv[0], u.Argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stderr = u.Env, u.Dir, os.Stderr
	who, err := user.Lookup(u.User)
	if err != nil {
		return err
	}
	uid, err1 := strconv.ParseUint(who.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(who.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, Pdeathsig: syscall.SIGQUIT}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", u.Name, err)
	}
	done := make(chan struct{})
	l.running[u.Name], l.done[u.Name] = cmd, done
	go func() { // ends with Stop, which waits for it
		_ = cmd.Wait()
		close(done)
	}()
	return nil
}

func (l *children) Signal(_ context.Context, name string, sig syscall.Signal) error {
	return l.running[name].Process.Signal(sig)
}

func (l *children) Wait(ctx context.Context, name string) error {
	select {
	case <-l.done[name]:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *children) Status(_ context.Context, name string) (units.Status, error) {
	st := units.Status{Name: name}
	if d, ok := l.done[name]; ok {
		select {
		case <-d:
		default:
			st.Running, st.PID = true, l.running[name].Process.Pid
		}
	}
	return st, nil
}
