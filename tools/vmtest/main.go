// Command vmtest runs packages' tests as root inside a stock Debian kernel
// under QEMU, in pure emulation: what depends on a kernel's behaviour counts
// as proved only there. One boot serves all packages named. The guest sees the
// host's files read-only below an overlay, has no network card but an empty disk
// of its own, and finds KOMAINU_VM=1 in its environment.
//
//	go run ./tools/vmtest [-run REGEX] [-v] [-timeout 10m] [-to FILE] PACKAGE...
//
// Start reading at run; guest/ is the other side of the virtual machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"komainu/tools/tally/report"
	"komainu/tools/vmtest/job"
)

type options struct {
	run     string        // -test.run
	verbose bool          // print every line as it comes
	timeout time.Duration // for the virtual machine's whole life
	to      string        // file for the count
	env     []string      // more of the tests' environment, "NAME=VALUE"
}

func main() {
	var o options
	flag.StringVar(&o.run, "run", "", "run only the tests that match this expression")
	flag.BoolVar(&o.verbose, "v", false, "print everything that the tests print, as it comes")
	flag.DurationVar(&o.timeout, "timeout", 10*time.Minute, "end the virtual machine after this time")
	flag.StringVar(&o.to, "to", "", "append the count, as \"passed failed skipped\", to this file")
	flag.Func("env", "set `NAME=VALUE` for the tests; may stand several times", func(s string) error {
		o.env = append(o.env, s)
		return nil
	})
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: vmtest [-run REGEX] [-v] [-timeout 10m] [-to FILE] [-env NAME=VALUE] PACKAGE...")
		os.Exit(2)
	}
	// Nothing outlives whoever asked: the kernel ends this process with its
	// parent, and QEMU with the thread that started it.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "vmtest: tie to the parent's life:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	total, err := run(ctx, o, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmtest:", err)
	}
	if err != nil || !total.OK() {
		os.Exit(1)
	}
}

// run builds, boots, and prints the result of every package and the count.
func run(ctx context.Context, o options, patterns []string) (total report.Total, err error) {
	out, err := filepath.Abs("out/vm")
	if err != nil {
		return total, err
	}
	k, err := fetchKernel(ctx, out)
	if err != nil {
		return total, err
	}
	if err := sweep(out); err != nil {
		return total, err
	}
	scratch, err := os.MkdirTemp(out, fmt.Sprintf("run-%d-", os.Getpid()))
	if err != nil {
		return total, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	plan := job.Plan{
		ModuleDir: k.modules, Release: k.release,
		Env: append([]string{
			"HOME=/root", "KOMAINU_VM=1", "LANG=C.UTF-8", "USER=root",
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		}, o.env...),
	}
	if plan.Boot, plan.Modules, err = moduleNames(k); err != nil {
		return total, err
	}
	if plan.Tests, err = buildTests(ctx, scratch, o, patterns); err != nil {
		return total, err
	}
	if len(plan.Tests) == 0 {
		return total, errors.New("none of these packages has tests")
	}
	initrd := filepath.Join(scratch, "initrd")
	if err := writeInitramfs(ctx, initrd, k, plan); err != nil {
		return total, err
	}
	console, disk := filepath.Join(scratch, "console.log"), filepath.Join(scratch, "disk")
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, job.DiskBytes)); err != nil {
		return total, err
	}
	total, err = boot(ctx, o, machine{kernel: k.image, initrd: initrd, console: console, disk: disk})
	err = errors.Join(err, os.Rename(console, filepath.Join(out, "console.log")))
	if o.to != "" {
		err = errors.Join(err, total.AppendTo(o.to))
	}
	fmt.Printf("%v, kernel %s\n", total, k.release)
	return total, err
}

// sweep removes the scratch folders of runs whose process is no more.
func sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "run-*"))
	if err != nil {
		return err
	}
	for _, name := range left {
		pid := strings.Split(filepath.Base(name), "-")[1]
		if _, err := os.Stat("/proc/" + pid); os.IsNotExist(err) {
			if err := os.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	return nil
}
