package town

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"komainu/appliance/control"
	"komainu/failover/machine"
	"komainu/tools/lab"
)

// Boxes are machines in place of processes (see tools/boxes/pair). What they are
// asked goes the ways that a field engineer has: their consoles and the health
// port. Close comes before the lab is taken down.
type Boxes interface {
	// Boot gives the machine in the place of h its power; before the first time,
	// what its site's bundle brings.
	Boot(ctx context.Context, h *lab.Host, s Site) error
	// Order gives the town-hall box an order and waits for its end; that of a
	// return may be left before, when it has not been refused.
	Order(ctx context.Context, o machine.Order) (machine.Reply, error)
	Close() error
}

// Site is what a machine gets in a bundle.
type Site struct {
	Name    string // as the configuration says it
	Config  []byte
	Secrets map[string][]byte
	Links   []string // of the lab's host: those that the configuration calls eth0, eth1, ...
}

// machinePoll is pollEvery where every answer costs an emulated processor.
const machinePoll = 500 * time.Millisecond

func (w *World) pollEvery() time.Duration {
	if w.Boxes != nil {
		return machinePoll
	}
	return pollEvery
}

// machine is the links of h, in the order of their cards, when a machine stands
// in for it.
func (w *World) machine(h *lab.Host) []string {
	switch {
	case w.Boxes == nil:
		return nil
	case h == w.Hall:
		return []string{"office", "main", "alt"}
	case h == w.Edge:
		return []string{"dclan", "main", "alt"}
	}
	return nil
}

// bootMachine hands over what prepare wrote for the host.
func (w *World) bootMachine(ctx context.Context, h *lab.Host) error {
	s := Site{Name: map[*lab.Host]string{w.Hall: lab.SiteHall, w.Edge: lab.SiteEdge}[h], Secrets: map[string][]byte{}, Links: w.machine(h)}
	var err error
	if s.Config, err = os.ReadFile(config(h)); err != nil {
		return err
	}
	dir := filepath.Join(h.StateDir(), "secrets")
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if s.Secrets[n.Name()], err = os.ReadFile(filepath.Join(dir, n.Name())); err != nil {
			return err
		}
	}
	return w.Boxes.Boot(ctx, h, s)
}

// healthStatus asks a machine's agent over its health port, from a host beside it.
func (w *World) healthStatus(ctx context.Context, h *lab.Host) (control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	from, at := w.Clients[0], lab.Hall4
	if h == w.Edge {
		from, at = w.App, lab.Edge4
	}
	client := http.Client{Transport: &http.Transport{DialContext: dialer(from), DisableKeepAlives: true}}
	var st control.Status
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(at, strconv.Itoa(healthPort))+control.StatusPath, nil)
	if err != nil {
		return st, err
	}
	answer, err := client.Do(req)
	if err != nil {
		return st, fmt.Errorf("status of %s: %w", h.Name, err)
	}
	defer answer.Body.Close() // read side: nothing to lose
	if answer.StatusCode != http.StatusOK {
		return st, fmt.Errorf("status of %s: %s", h.Name, answer.Status)
	}
	if err := json.NewDecoder(answer.Body).Decode(&st); err != nil {
		return st, fmt.Errorf("status of %s: %w", h.Name, err)
	}
	return st, nil
}
