package town

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/jackc/pgx/v5"

	"komainu/drivers/files"
	"komainu/tools/ledger"
)

// clerkPassword is what the clerks log in with; nothing else is protected by it.
const clerkPassword = "counter"

// seed puts a filled cluster under the database host's state folder. Making
// one takes seconds, so a template per size is kept under the folder of
// temporary files and copied.
func (w *World) seed(ctx context.Context) error {
	base := filepath.Join(w.DB.StateDir(), "databases", Group)
	template := filepath.Join(os.TempDir(), "komainu-lab", fmt.Sprintf("template-%d-%d", w.Size.People, w.Seed))
	if err := os.MkdirAll(filepath.Dir(base), 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(template), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(template+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(filepath.Join(template, "complete")); err != nil {
		w.say("making a resident ledger of %d people", w.Size.People)
		if err := w.makeTemplate(ctx, template, base); err != nil {
			return fmt.Errorf("make the resident ledger: %w", err)
		}
	}
	if err := os.RemoveAll(base); err != nil {
		return err
	}
	return copyTree(ctx, filepath.Join(template, "base"), base)
}

// makeTemplate lets the program make the cluster, fills it, and keeps a copy.
func (w *World) makeTemplate(ctx context.Context, template, base string) error {
	if err := os.RemoveAll(base); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, w.Program, "database", "init", Group, "--config", config(w.DB), "--state", w.DB.StateDir(), "--run", w.DB.RunDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", cmd.Args, err, out)
	}
	if err := w.fill(ctx, base); err != nil {
		return err
	}
	if err := os.RemoveAll(template); err != nil {
		return err
	}
	if err := os.MkdirAll(template, 0o755); err != nil {
		return err
	}
	if err := copyTree(ctx, base, filepath.Join(template, "base")); err != nil {
		return err
	}
	return files.Replace(filepath.Join(template, "complete"), nil, 0o644)
}

// fill runs the new cluster by hand, as an installer would before the agent
// takes over, and loads the ledger.
func (w *World) fill(ctx context.Context, base string) error {
	run := filepath.Join(base, "run")
	pg := exec.CommandContext(ctx, "/usr/lib/postgresql/15/bin/postgres", "-D", filepath.Join(base, "data"), "-c", "listen_addresses=", "-c", "unix_socket_directories="+run,
		"-c", "fsync=off", "-c", "hba_file="+filepath.Join(base, "conf", "pg_hba.conf"), "-c", "ident_file="+filepath.Join(base, "conf", "pg_ident.conf"))
	cred, err := postgresUser()
	if err != nil {
		return err
	}
	pg.Dir = "/"
	pg.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Pdeathsig: syscall.SIGQUIT}
	pg.Cancel = func() error { return pg.Process.Signal(syscall.SIGQUIT) }
	if err := pg.Start(); err != nil {
		return err
	}
	err = w.load(ctx, run)
	if e := pg.Process.Signal(syscall.SIGINT); e != nil && err == nil {
		err = e
	}
	if e := pg.Wait(); e != nil && err == nil {
		err = e
	}
	return err
}

func (w *World) load(ctx context.Context, socket string) error {
	conn, err := connectWhenUp(ctx, "host="+socket+" user=postgres dbname=postgres")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "create role clerk login password '"+clerkPassword+"'"); err != nil {
		return err
	}
	if err := ledger.Generate(ctx, conn, w.Size, w.Seed); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "grant all on all tables in schema public to clerk; grant all on all sequences in schema public to clerk; checkpoint")
	return err
}

func copyTree(ctx context.Context, from, to string) error {
	if out, err := exec.CommandContext(ctx, "cp", "-a", "--reflink=auto", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	return nil
}

func connectWhenUp(ctx context.Context, dsn string) (*pgx.Conn, error) {
	for {
		conn, err := pgx.Connect(ctx, dsn)
		if err == nil {
			return conn, nil
		}
		if pause(ctx, pollEvery) != nil {
			return nil, err
		}
	}
}
