package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// slow is when a tool that still runs is announced on the console.
const slow = 5 * time.Second

// tool runs a program of the image and returns its exit code; -1 when it could
// not be started or was ended by the limit or a signal. What it printed goes to
// the log. It waits for its child: it must not run beside a supervisor, which
// reaps all. A disk that hangs keeps its tool in the kernel whatever is sent to
// it: that is the watchdog's matter.
func (b *Boot) tool(ctx context.Context, limit time.Duration, argv ...string) (int, error) {
	b.busy(limit + stepLimit)
	defer b.busy(stepLimit)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(argv[0]), argv[1:]...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "E2FSCK_CONFIG=/dev/null"}
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	note := time.AfterFunc(slow, func() { b.say("boot-tool-runs", strings.Join(argv, " ")) })
	defer note.Stop()
	begin := time.Now()
	err := cmd.Run()
	b.o.Log.Info("tool", "argv", argv, "took", time.Since(begin).Round(time.Millisecond), "result", fmt.Sprint(err), "said", tail(out.String()))
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return -1, fmt.Errorf("%s: %w", argv[0], err)
	}
	return 0, nil
}

// program finds a tool in the image; PID 1 has no PATH.
func program(name string) string {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	return name
}

// tail is the end of what a tool printed: e2fsck can say much.
func tail(s string) string {
	const most = 2000
	return strings.TrimSpace(s[max(0, len(s)-most):])
}
