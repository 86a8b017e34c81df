package hublab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"komainu/drivers/vici"
	"komainu/tools/lab"
)

// TestMain is a keeper instead of tests where the parent says so: its CPU time
// is then its own.
func TestMain(m *testing.M) {
	if socket := os.Getenv(keeperSocket); socket != "" {
		if err := keeperMain(socket); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// keeperSocket is the variable with the vici socket that a keeper is for.
const keeperSocket = "HUBLAB_KEEPER"

// told is what a keeper writes: that charon has what was wanted, or how a tunnel is.
type told struct {
	Set    bool
	Err    string
	Tunnel string
	Up     bool
}

// keeperMain reads what is wanted, each a whole state, until its input ends.
func keeperMain(socket string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	tell := func(x told) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(x) // a parent that is gone ends the input too
	}
	k := vici.NewKeeper(vici.KeeperConfig{Socket: socket})
	connected := make(chan struct{})
	var once sync.Once
	done := make(chan error, 1)
	go func() { // awaited below
		done <- k.Run(ctx, func(e vici.Event) {
			switch e := e.(type) {
			case vici.Connected:
				once.Do(func() { close(connected) })
			case vici.Changed:
				tell(told{Tunnel: e.State.Name, Up: e.State.Up})
			case vici.Refused:
				tell(told{Tunnel: e.Tunnel, Err: fmt.Sprint(e.Reason, " ", e.Detail)})
			}
		})
	}()
	<-connected
	var err error
	for in := json.NewDecoder(os.Stdin); ; {
		var want []vici.Desired
		if err = in.Decode(&want); err != nil {
			break
		}
		x := told{Set: true}
		if err := k.Set(ctx, want); err != nil {
			x.Err = err.Error()
		}
		tell(x)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	cancel()
	return errors.Join(err, <-done)
}

// keeper is a keeper in a process of its own.
type keeper struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser

	mu     sync.Mutex
	sets   int
	states map[string]bool
	errs   []string
	change chan struct{} // capacity 1
}

func keep(ctx context.Context, t *testing.T, c *charon) *keeper {
	t.Helper()
	k := &keeper{t: t, states: map[string]bool{}, change: make(chan struct{}, 1)}
	program, err := os.Executable()
	must(t, err)
	k.cmd = exec.CommandContext(ctx, program)
	k.cmd.Env = append(os.Environ(), keeperSocket+"="+c.socket)
	k.cmd.Stderr = os.Stderr
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	k.in, err = k.cmd.StdinPipe()
	must(t, err)
	out, err := k.cmd.StdoutPipe()
	must(t, err)
	must(t, k.cmd.Start())
	var reading sync.WaitGroup
	reading.Go(func() { k.read(out) })
	t.Cleanup(func() {
		k.in.Close()
		reading.Wait()
		if err := k.cmd.Wait(); err != nil && ctx.Err() == nil {
			t.Errorf("keeper: %v", err)
		}
	})
	return k
}

func (k *keeper) read(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var x told
		if json.Unmarshal(lines.Bytes(), &x) != nil {
			continue
		}
		k.mu.Lock()
		switch {
		case x.Err != "":
			k.errs = append(k.errs, x.Tunnel+": "+x.Err)
		case x.Set:
			k.sets++
		default:
			k.states[x.Tunnel] = x.Up
		}
		k.mu.Unlock()
		select {
		case k.change <- struct{}{}:
		default: // it looks anyway
		}
	}
}

// until waits for what the keeper tells.
func (k *keeper) until(ctx context.Context, what string, met func() error) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		k.mu.Lock()
		err, errs := met(), strings.Join(k.errs, "\n")
		k.mu.Unlock()
		if err == nil {
			return
		}
		select {
		case <-k.change:
		case <-ctx.Done():
			k.t.Fatalf("%s: not within %v: %.2000v\n%.2000s", what, patience, err, errs)
		}
	}
}

// begin gives it what is wanted, and doesn't wait.
func (k *keeper) begin(want []vici.Desired) {
	k.t.Helper()
	must(k.t, json.NewEncoder(k.in).Encode(want))
}

// set gives it what is wanted, and waits until charon has it.
func (k *keeper) set(ctx context.Context, want []vici.Desired) {
	k.t.Helper()
	k.mu.Lock()
	before := k.sets
	k.mu.Unlock()
	k.begin(want)
	k.until(ctx, "charon to have the tunnels", func() error {
		if k.sets == before {
			return errors.New("it hasn't said so")
		}
		return nil
	})
}

// up waits until all of them are.
func (k *keeper) up(ctx context.Context, all []vici.Desired) {
	k.t.Helper()
	k.until(ctx, "tunnels to be up", func() error {
		var down []string
		for _, d := range all {
			if !k.states[d.Tunnel.Name] {
				down = append(down, d.Tunnel.Name)
			}
		}
		if len(down) > 0 {
			return fmt.Errorf("%d aren't: %v", len(down), down)
		}
		return nil
	})
}

// charon is one daemon of a host.
type charon struct {
	socket string
	pid    int
}

const charonProgram = "/usr/lib/ipsec/charon"

// newCharon starts a charon with ESP in user space, and a /run of its own for its
// PID file.
func newCharon(ctx context.Context, t *testing.T, h *lab.Host) *charon {
	t.Helper()
	for _, file := range []string{charonProgram, "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so"} {
		if _, err := os.Stat(file); err != nil {
			t.Skipf("needs %s (apt: strongswan-charon, libcharon-extra-plugins)", file)
		}
	}
	c := &charon{socket: filepath.Join(h.RunDir(), "charon.vici")}
	conf := filepath.Join(h.Dir, "strongswan.conf")
	must(t, os.WriteFile(conf, []byte(vici.Daemon(vici.Settings{Socket: c.socket, UserSpace: true})), 0o600))
	must(t, h.Start(ctx, lab.Daemon{Name: "charon", Env: append(os.Environ(), "STRONGSWAN_CONF="+conf),
		Argv: []string{"unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /run && exec " + charonProgram + " --use-syslog no"}}))
	pids, err := h.Processes("charon")
	must(t, err)
	if len(pids) != 1 {
		t.Fatalf("charon of %s: processes %v", h.Name, pids)
	}
	c.pid = pids[0]
	return c
}

// addresses gives the loopback of this thread's namespace addresses.
func addresses(ctx context.Context, all []netip.Addr) error {
	var lines strings.Builder
	fmt.Fprintln(&lines, "link set lo up")
	for _, a := range all {
		fmt.Fprintf(&lines, "addr add %s/%d dev lo\n", a, a.BitLen())
	}
	cmd := exec.CommandContext(ctx, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(lines.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("addresses: %w: %s", err, out)
	}
	return nil
}

// cpu is how much of a core processes take together, in percent, over a time.
func cpu(ctx context.Context, over time.Duration, pids ...int) (float64, error) {
	sum := func() (d time.Duration, err error) {
		for _, pid := range pids {
			one, e := used(pid)
			d, err = d+one, errors.Join(err, e)
		}
		return d, err
	}
	before, err := sum()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	select { // the time is what is measured
	case <-time.After(over):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := sum()
	return 100 * float64(after-before) / float64(time.Since(begin)), err
}

// used is the CPU time of a process so far, of all its threads (proc(5), utime
// and stime, in ticks of 10 ms).
func used(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name before may hold anything
	var user, system int64
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, fmt.Errorf("process %d: %q", pid, text)
	}
	_, err = fmt.Sscan(f[11]+" "+f[12], &user, &system)
	return time.Duration(user+system) * 10 * time.Millisecond, err
}
