// Command guest is PID 1 of vmtest's virtual machine and, as /sbin/modprobe,
// the answer to the kernel's requests for modules. As PID 1 it mounts the
// host's root read-only with an overlay in memory, runs the test binaries of
// the plan in it one after another, and powers off. Linux only, by nature.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/kmod"
	"komainu/tools/vmtest/job"
)

func main() {
	if filepath.Base(os.Args[0]) == "modprobe" {
		os.Exit(kmod.Modprobe(os.Args[1:], moduleRoot(), os.Stderr))
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest is PID 1 of vmtest's virtual machine, or modprobe there; it does nothing elsewhere")
		os.Exit(2)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "vmtest:", err) // the console, which the host keeps
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Fprintln(os.Stderr, "vmtest: power off:", err)
	}
}

// run does the whole plan. What goes wrong after the port is open goes there too.
func run() error {
	if err := mountKernel(); err != nil {
		return err
	}
	text, err := os.ReadFile(job.PlanFile)
	if err != nil {
		return err
	}
	var plan job.Plan
	if err := json.Unmarshal(text, &plan); err != nil {
		return fmt.Errorf("%s: %w", job.PlanFile, err)
	}
	if err := loadAll(job.ModuleRoot, plan.Release, plan.Boot); err != nil {
		return err
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	fail := func(err error) error {
		if werr := (job.Event{Kind: "error", Text: err.Error()}).Write(port); werr != nil {
			return errors.Join(err, werr)
		}
		return err
	}
	if err := mountHost(plan); err != nil {
		return fail(err)
	}
	if err := linkModules(plan); err != nil {
		return fail(err)
	}
	if err := loadAll(allModules, plan.Release, plan.Modules); err != nil {
		return fail(err)
	}
	if err := loopbackUp(); err != nil {
		return fail(err)
	}
	for _, t := range plan.Tests {
		if err := runTest(t, plan.Env, port); err != nil {
			return fail(err)
		}
	}
	return job.Event{Kind: "done", Seconds: uptime().Seconds()}.Write(port)
}

// runTest runs one binary in the host's root and leaves none of its processes.
func runTest(t job.Test, env []string, port *os.File) error {
	if err := (job.Event{Kind: "begin", Package: t.Package}).Write(port); err != nil {
		return err
	}
	start := time.Now()
	status, err := runInRoot(t, env, port)
	if err != nil {
		return fmt.Errorf("start %s: %w", t.Argv[0], err)
	}
	end := job.Event{Kind: "end", Package: t.Package, Seconds: time.Since(start).Seconds()}
	switch {
	case status.Signaled():
		end.Exit = "signal " + status.Signal().String()
	case status.ExitStatus() != 0:
		end.Exit = fmt.Sprintf("exit status %d", status.ExitStatus())
	}
	return end.Write(port)
}

func runInRoot(t job.Test, env []string, out *os.File) (unix.WaitStatus, error) {
	null, err := os.Open("/dev/null")
	if err != nil {
		return 0, err
	}
	defer null.Close()
	p, err := os.StartProcess(t.Argv[0], t.Argv, &os.ProcAttr{
		Dir: t.Dir, Env: env, Files: []*os.File{null, out, out},
		Sys: &unix.SysProcAttr{Chroot: root, Setsid: true},
	})
	if err != nil {
		return 0, err
	}
	// PID 1 also inherits what the test's children leave behind.
	status, err := reapUntil(p.Pid)
	if err != nil {
		return 0, err
	}
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && err != unix.ESRCH {
		return 0, fmt.Errorf("end what the test left: %w", err)
	}
	if _, err := reapUntil(0); err != nil {
		return 0, err
	}
	return status, nil
}

// reapUntil waits for children until pid has ended, or for pid 0 until none is left.
func reapUntil(pid int) (unix.WaitStatus, error) {
	for {
		var status unix.WaitStatus
		switch got, err := unix.Wait4(-1, &status, 0, nil); {
		case err == unix.EINTR:
		case err == unix.ECHILD && pid == 0:
			return 0, nil
		case err != nil:
			return 0, fmt.Errorf("wait for children: %w", err)
		case got == pid:
			return status, nil
		}
	}
}

// openPort finds the host's port by its name.
func openPort() (*os.File, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if strings.TrimSpace(string(text)) == job.Port {
			dev := "/dev/" + filepath.Base(filepath.Dir(name))
			// Not os.Open, which would make it non-blocking for the tests too.
			fd, err := unix.Open(dev, unix.O_WRONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil, fmt.Errorf("open %s: %w", dev, err)
			}
			return os.NewFile(uintptr(fd), dev), nil
		}
	}
	return nil, fmt.Errorf("no virtio-serial port is named %s", job.Port)
}

func uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
