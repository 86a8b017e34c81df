package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"komainu/tools/tally/report"
	"komainu/tools/vmtest/job"
)

// machine is what one boot needs.
type machine struct{ kernel, initrd, console, disk string }

// argv is the command of QEMU. Emulation only (nested KVM hangs), no network
// card, the port of the tests on standard output (as a file: the stdio device
// hangs up on the guest when its input ends).
func (m machine) argv() []string {
	return []string{
		"qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1536",
		"-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-reboot",
		"-serial", "file:" + m.console,
		"-device", "virtio-serial-pci",
		"-chardev", "file,id=port,path=/dev/stdout", "-device", "virtserialport,chardev=port,name=" + job.Port,
		"-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
		"-device", "virtio-9p-pci,fsdev=root,mount_tag=" + job.Tag,
		"-drive", "if=none,id=disk,format=raw,cache=unsafe,file=" + m.disk,
		"-device", "virtio-blk-pci,drive=disk,serial=" + job.Disk,
		"-kernel", m.kernel, "-initrd", m.initrd, "-append", "console=ttyS0 panic=-1 quiet",
	}
}

// boot runs the machine and reports what its tests say. The caller has locked
// its thread: QEMU ends with the thread that starts it.
func boot(ctx context.Context, o options, m machine) (report.Total, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	argv := m.argv()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	port, err := cmd.StdoutPipe()
	if err != nil {
		return report.Total{}, err
	}
	if err := cmd.Start(); err != nil {
		return report.Total{}, fmt.Errorf("start the virtual machine: %w", err)
	}
	var (
		total  report.Total
		tasks  errgroup.Group
		rd, wr = io.Pipe()
		live   = io.Discard
		shown  = io.Writer(os.Stdout)
	)
	if o.verbose {
		live, shown = os.Stdout, io.Discard
	}
	tasks.Go(func() error {
		var err error
		total, err = report.Copy(shown, rd)
		return err
	})
	done, err := translate(io.MultiWriter(wr, live), port)
	err = errors.Join(err, wr.Close(), tasks.Wait())
	werr := cmd.Wait()
	if done && err == nil {
		return total, nil
	}
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		err = errors.Join(err, fmt.Errorf("the virtual machine was ended after %v", o.timeout))
	case ctx.Err() != nil:
		err = errors.Join(err, ctx.Err())
	default:
		err = errors.Join(err, werr, fmt.Errorf("the virtual machine ended early; its console said:\n%s%s",
			tail(m.console), complaints.Bytes()))
	}
	return total, err
}

// translate turns the port's stream into what `go test -v` prints, and says
// whether the guest came to the end of its plan.
func translate(w io.Writer, port io.Reader) (done bool, err error) {
	in := bufio.NewScanner(port)
	in.Buffer(nil, 1<<24)
	running, blank := "", false
	for in.Scan() {
		e, ok := job.Parse(in.Bytes())
		if !ok {
			// An event is preceded by a line end of its own.
			if blank {
				fmt.Fprintln(w)
			}
			if blank = len(in.Bytes()) == 0; !blank {
				fmt.Fprintf(w, "%s\n", in.Bytes())
			}
			continue
		}
		blank = false
		switch e.Kind {
		case "begin":
			running = e.Package
		case "end":
			running = ""
			if e.Exit == "" {
				fmt.Fprintf(w, "ok  \t%s\t%.3fs\n", e.Package, e.Seconds)
			} else {
				fmt.Fprintf(w, "%s\nFAIL\t%s\t%.3fs\n", e.Exit, e.Package, e.Seconds)
			}
		case "error":
			err = errors.Join(err, fmt.Errorf("in the guest: %s", e.Text))
		case "done":
			done = true
		}
	}
	if running != "" {
		fmt.Fprintf(w, "FAIL\t%s\t[the virtual machine ended]\n", running)
	}
	return done, errors.Join(err, in.Err())
}

// tail is the end of the console.
func tail(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n") + "\n"
}
