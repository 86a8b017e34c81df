package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tool runs one of PostgreSQL's programs as the daemon's user and gives its
// output. It dies with us: a pg_rewind that outlived the agent would write
// into a directory that the next agent believes its own.
func (c *Cluster) tool(ctx context.Context, progress func(int, string), name string, args ...string) (string, error) {
	o, err := c.owner()
	if err != nil {
		return "", err
	}
	runtime.LockOSThread() // the death signal follows the thread that started the child
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, filepath.Join(c.cfg.Bin, name), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid: true, Pdeathsig: syscall.SIGKILL,
		Credential: &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)},
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout = &out
	cmd.Stderr = &errs
	if progress != nil {
		cmd.Stderr = io.MultiWriter(&errs, &progressWriter{report: progress})
	}
	err = cmd.Run()
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		text := lastLines(errs.String(), 6)
		if strings.Contains(text, "No space left on device") {
			err = errors.Join(ErrNoSpace, err)
		}
		return out.String(), fmt.Errorf("%s for database %s: %w: %s", name, c.cfg.Name, err, text)
	}
	return out.String(), nil
}

// lastLines keeps the end of a program's complaint, without progress lines.
func lastLines(s string, n int) string {
	var keep []string
	for l := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if l = strings.TrimSpace(l); l != "" && !progressLine.MatchString(l) {
			keep = append(keep, l)
		}
	}
	if len(keep) > n {
		keep = keep[len(keep)-n:]
	}
	return strings.Join(keep, "; ")
}

// pg_basebackup: "12345/67890 kB (18%), 0/1 tablespace"; pg_rewind: "... (18%) copied".
var progressLine = regexp.MustCompile(`(\d+)/(\d+) kB \((\d+)%\)`)

// progressWriter turns a program's progress lines into calls of report.
type progressWriter struct {
	report func(percent int, text string)
	rest   []byte
}

func (w *progressWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexAny(w.rest, "\r\n")
		if i < 0 {
			return len(p), nil
		}
		line := string(w.rest[:i])
		w.rest = w.rest[i+1:]
		if m := progressLine.FindStringSubmatch(line); m != nil {
			percent, _ := strconv.Atoi(m[3]) // digits by the pattern
			w.report(min(percent, 100), strings.TrimSpace(line))
		}
	}
}
