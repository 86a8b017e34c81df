package shell

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"komainu/appliance/agent"
	"komainu/appliance/control"
	"komainu/drivers/files"
	"komainu/drivers/nflog"
	"komainu/netstack/firewall"
)

// guard sets the firewall, before anything becomes reachable.
func (g *grounding) guard(p firewall.Policy, applied *agent.Applied) error {
	if g.filter == nil {
		return nil
	}
	p.Zones = slices.Clone(p.Zones)
	for i := range p.Zones {
		p.Zones[i].Link = g.link(p.Zones[i].Link)
	}
	if reflect.DeepEqual(g.guarded, &p) { // to make the rules anew costs a lot more than to look
		if same, err := g.filter.Matches(); same && err == nil {
			return nil
		}
	}
	changed, err := g.filter.Apply(firewall.Rules(p))
	if err != nil {
		return err
	}
	g.guarded = &p
	if changed {
		applied.Changes = append(applied.Changes, "replace the firewall's rules")
	}
	return nil
}

// refusals writes what the firewall refused to STATE/log/access.ndjson (AT-143).
// Equal ones within a second are one line.
type refusals struct {
	path string
	mu   sync.Mutex
	now  []control.AccessEntry // of this second
	err  error                 // of the last write
}

// Bounds of the log: a flood costs one line a second and kind, and the file one
// old one beside it.
const (
	accessEvery = time.Second
	accessKinds = 100
	accessMost  = 1 << 20
	accessShown = 50
)

// run hears the kernel until ctx ends.
func (r *refusals) run(ctx context.Context) error {
	heard := make(chan error, 1)
	go func() { heard <- nflog.Run(ctx, firewall.LogGroup, r.take) }()
	tick := time.NewTicker(accessEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-heard:
			return errors.Join(err, r.write())
		case <-tick.C:
			_ = r.write() // kept in r.err, tried again with the next
		}
	}
}

func (r *refusals) take(x nflog.Refusal) {
	e := control.AccessEntry{Time: x.At, Rule: x.Rule, In: linkName(x.In), From: x.Src.String(), FromPort: x.SrcPort,
		To: x.Dst.String(), ToPort: x.DstPort, Proto: protocol(x.Proto), Count: 1}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.now {
		n := &r.now[i]
		if n.Rule == e.Rule && n.In == e.In && n.From == e.From && n.To == e.To && n.ToPort == e.ToPort && n.Proto == e.Proto {
			n.Count++
			return
		}
	}
	if len(r.now) < accessKinds {
		r.now = append(r.now, e)
	}
}

func linkName(index int) string {
	if i, err := net.InterfaceByIndex(index); err == nil {
		return i.Name
	}
	return strconv.Itoa(index)
}

func protocol(n uint8) string {
	switch n {
	case 1:
		return "icmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 50:
		return "esp"
	case 58:
		return "icmpv6"
	}
	return strconv.Itoa(int(n))
}

func (r *refusals) write() error {
	r.mu.Lock()
	now := r.now
	r.now = nil
	r.mu.Unlock()
	if len(now) == 0 {
		return nil
	}
	err := r.append(now)
	r.mu.Lock()
	r.err = err
	r.mu.Unlock()
	return err
}

func (r *refusals) append(all []control.AccessEntry) error {
	if err := os.MkdirAll(filepath.Dir(r.path), 0o750); err != nil {
		return fmt.Errorf("log of refused accesses: %w", err)
	}
	if st, err := os.Stat(r.path); err == nil && st.Size() > accessMost {
		if err := os.Rename(r.path, r.path+".1"); err != nil {
			return fmt.Errorf("log of refused accesses: %w", err)
		}
	}
	return files.Append(r.path, all...)
}

// last are the newest entries, newest first.
func (r *refusals) last(_ context.Context, q *control.Request) (any, error) {
	n := accessShown
	if s := q.Query("last"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 1 {
			return nil, &control.Error{Code: "bad-request", Args: []string{"last=" + s}, Status: http.StatusBadRequest}
		}
	}
	var all []control.AccessEntry
	for _, path := range []string{r.path, r.path + ".1"} {
		some, err := files.ReadJournal[control.AccessEntry](path)
		if err != nil {
			return nil, err
		}
		slices.Reverse(some)
		all = append(all, some...)
		if len(all) >= n {
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	return all[:min(n, len(all))], nil
}
