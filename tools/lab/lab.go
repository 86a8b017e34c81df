// Package lab builds small networks of real parts: hosts are network
// namespaces, daemons are processes in them, lines between sites are tun
// devices whose packets this process carries, delays, drops or cuts. It also
// reads and plays scenarios, short text files of faults and expectations.
//
// It never touches a process, link or sysctl outside its own namespaces; a lab
// that dies is cleared by the next start of any lab (leftovers.go). Start
// reading at New and BuildTown; for scenarios at ParseScenario.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"komainu/drivers/netns"
)

// Options of a lab.
type Options struct {
	Name string // for people: what the lab is for
	Dir  string // folder for the lab's own folder; empty: komainu-lab in the folder of temporary files
	Keep bool   // keep the files (logs, data) after the end
	Seed uint64 // of the lines' loss and jitter
}

// Lab is one network. Its methods may be called from several goroutines.
type Lab struct {
	ID   string // five letters and digits, unique on this machine
	Dir  string // the lab's own folder; one folder per host below
	own  owner
	held *os.File // the entry in Registry with our lock

	mu    sync.Mutex
	hosts []*Host
	lines []*Line
	seed  uint64
}

// New clears what dead labs left and opens an empty lab. Needs root. The caller
// closes it, also when what is built afterwards fails.
func New(ctx context.Context, opt Options) (*Lab, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("open a lab: network namespaces need root; run as root")
	}
	if opt.Dir == "" {
		opt.Dir = filepath.Join(os.TempDir(), "komainu-lab")
	}
	dir, err := filepath.Abs(opt.Dir)
	if err != nil {
		return nil, fmt.Errorf("open a lab: %w", err)
	}
	opt.Dir = dir
	own, held, err := register(ctx, opt)
	if err != nil {
		return nil, fmt.Errorf("open a lab: %w", err)
	}
	l := &Lab{ID: own.ID, Dir: own.Dir, own: own, held: held, seed: opt.Seed}
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		return nil, errors.Join(fmt.Errorf("open a lab: %w", err), l.Close())
	}
	return l, nil
}

// Close ends every process in the lab's namespaces and removes all that the lab
// made. It goes on after a failure and reports all of them; what it could not
// remove is tried again by the next New of any process.
func (l *Lab) Close() error {
	l.mu.Lock()
	hosts, lines := l.hosts, l.lines
	l.hosts, l.lines = nil, nil
	l.mu.Unlock()
	var errs []error
	for _, h := range hosts {
		errs = append(errs, killInside(context.Background(), h.Namespace))
		h.reap()
	}
	for _, line := range lines {
		line.close()
	}
	errs = append(errs, clear(context.Background(), l.own))
	err := errors.Join(errs...)
	if err == nil {
		err = remove(filepath.Join(Registry, l.ID+".json"))
	}
	l.held.Close()
	if err != nil {
		return fmt.Errorf("close lab %s: %w", l.ID, err)
	}
	return nil
}

// space is the name of a namespace of this lab.
func (l *Lab) space(name string) string { return prefix + l.ID + "-" + name }

// bridgeName is the bridge in the namespace of every LAN.
const bridgeName = "lan"

// LAN is a switch: a bridge in a namespace of its own, so that it survives
// when a host is powered off. It may also be the network of one VLAN of a
// Trunk, or the trunk's own ports.
type LAN struct {
	ns     string
	master string // link that takes the ports
	trunk  bool   // ports are a trunk's
}

// NewLAN adds a switch.
func (l *Lab) NewLAN(name string) (*LAN, error) {
	lan := &LAN{ns: l.space(name), master: bridgeName}
	if err := netns.New(lan.ns); err != nil {
		return nil, fmt.Errorf("lab %s: LAN %s: %w", l.ID, name, err)
	}
	err := configure(lan.ns, func(k kernel) error {
		// A switch has no addresses, so it sends nothing of its own.
		if err := sysctl("ipv6/conf/default/disable_ipv6", "1"); err != nil {
			return err
		}
		return k.bridge(bridgeName)
	})
	if err != nil {
		return nil, fmt.Errorf("lab %s: LAN %s: %w", l.ID, name, err)
	}
	return lan, nil
}
