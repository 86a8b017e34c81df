package vici

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Event is something that became known.
type Event interface{ event() }

// Connected says that charon answers. What it was given before is not known; Set it again.
type Connected struct{ Version string }

// Lost says that charon is gone, or hangs. What it put into the kernel lives on.
type Lost struct {
	Silent bool // it runs, but doesn't answer
	Err    error
}

// Changed is a tunnel that became another one.
type Changed struct {
	State   State
	Rekeyed bool // only its keys are new
	Anew    bool // the keys of its IKE SA, too: as a rule both ends have proved who they are
}

// Emptied says that somebody has deleted a tunnel's associations from the kernel;
// its IKE SA is ended, and the peer told.
type Emptied struct{ Tunnel string }

func (Connected) event() {}
func (Lost) event()      {}
func (Changed) event()   {}
func (Refused) event()   {}
func (Emptied) event()   {}

// State is a tunnel as charon has it.
type State struct {
	Name   string
	Up     bool      // traffic can pass
	Trying bool      // an IKE SA is being negotiated, perhaps beside the one that is up
	Since  time.Time // of Up, as seen here
	SAs    int       // IKE SAs of it
	SA     SA        // Up: the newest that carries traffic
}

// KeeperConfig is where a keeper finds its charon, and its times.
type KeeperConfig struct {
	Socket string        // vici
	Every  time.Duration // between two looks at everything; 0: 1 s. More where a look takes long
	Silent time.Duration // who hasn't answered for so long hangs; 0: 3 s
}

// Keeper keeps one charon as it is wanted, and tells what becomes of its tunnels.
type Keeper struct {
	cfg    KeeperConfig
	client *Client

	setting sync.Mutex       // held over a Set; it guards the next two
	given   map[string]given // nil: not known
	run     uint64           // connection that given is of
	telling sync.Mutex       // held while an event is told
	order   sync.Mutex       // held from a change of states until it is told: the last word is the latest state
	mu      sync.Mutex       // guards the rest
	runs    uint64           // begins and ends of connections so far
	states  map[string]State
	touched map[string]uint64 // event that changed a tunnel last
	seq     uint64            // events so far
	wanted  map[string]string // name → identity of the peer
	olds    map[uint32]time.Time
	missing map[string]bool // SPIs that charon has and the kernel hasn't
	dirty   chan struct{}   // capacity 1: a look is wanted
	loaded  bool            // this charon has been given the tunnels
	refused refusals
}

// Pauses of the keeper.
const (
	redial     = 50 * time.Millisecond // a socket's file may be a dead charon's: only a try tells
	redialSlow = time.Second           // where none has come for redialFast
	redialFast = 10 * time.Second
	gather     = 20 * time.Millisecond // changes come in swarms
	lookShare  = 50                    // a look may take one part in so many of the time
	oldOutlive = 5 * time.Second       // an SA that a newer one has replaced, at who began it
	oldWaiting = 15 * time.Second      // and at who waits: behind charon's own 10 s, and the peer
)

// NewKeeper makes a keeper; nothing is touched before Run.
func NewKeeper(cfg KeeperConfig) *Keeper {
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Silent == 0 {
		cfg.Silent = 3 * time.Second
	}
	return &Keeper{cfg: cfg, client: &Client{Socket: cfg.Socket, Within: cfg.Silent}, states: map[string]State{}, touched: map[string]uint64{}, wanted: map[string]string{},
		olds: map[uint32]time.Time{}, missing: map[string]bool{}, dirty: make(chan struct{}, 1), refused: refusals{}}
}

// Run tells f what becomes known, one after the other, until ctx ends. It is
// there again whenever charon is.
func (k *Keeper) Run(ctx context.Context, f func(Event)) error {
	defer k.client.Close()
	tell := func(e Event) {
		k.telling.Lock()
		defer k.telling.Unlock()
		f(e)
	}
	lost, since := Lost{}, time.Now()
	for told := false; ; {
		up, err := k.watch(ctx, tell)
		if ctx.Err() != nil {
			return nil
		}
		now := Lost{Silent: errors.Is(err, ErrSilent), Err: err}
		if up || !told || now.Silent != lost.Silent {
			tell(now)
			lost, told = now, true
		}
		if up {
			since = time.Now()
		}
		pause := redial
		if time.Since(since) > redialFast {
			pause = redialSlow
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

var eventNames = []string{"ike-updown", "child-updown", "ike-rekey", "child-rekey", "log"}

// watch listens on one connection until it ends; up tells whether it ever began.
func (k *Keeper) watch(ctx context.Context, tell func(Event)) (up bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := dial(ctx, k.cfg.Socket)
	if err != nil {
		return false, err
	}
	defer c.close()
	end := c.until(ctx, k.cfg.Silent)
	var early []packet
	for _, name := range eventNames {
		if err := c.register(packetRegister, name, func(p packet) { early = append(early, p) }); err != nil {
			end()
			return false, explain(ctx, "register", err)
		}
	}
	end()
	v, err := k.client.Version(ctx)
	if err != nil {
		return false, err
	}
	k.mu.Lock()
	k.runs++
	k.loaded = false
	k.mu.Unlock()
	tell(Connected{Version: v.Version})
	k.look()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return k.looks(gctx, tell) })
	g.Go(func() error {
		for _, p := range early {
			k.heard(p, tell)
		}
		_ = c.c.SetDeadline(time.Time{}) // events come when they come
		defer context.AfterFunc(gctx, func() { _ = c.c.SetDeadline(time.Unix(1, 0)) })()
		for {
			p, err := c.receive()
			if err != nil {
				if gctx.Err() != nil {
					return gctx.Err()
				}
				return explain(gctx, "events", err)
			}
			k.heard(p, tell)
		}
	})
	err = g.Wait()
	k.mu.Lock()
	k.runs++ // whoever answers next may be another one
	k.mu.Unlock()
	return true, err
}

// States are the tunnels as last known.
func (k *Keeper) States() map[string]State {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[string]State{}
	for n := range k.wanted {
		out[n] = k.states[n]
	}
	return out
}

// Look asks charon for the tunnels now, with their counters.
func (k *Keeper) Look(ctx context.Context) (map[string]State, error) {
	all, err := k.client.ListSAs(ctx, "")
	if err != nil {
		return nil, err
	}
	by := map[string][]SA{}
	for _, s := range all {
		by[s.Name] = append(by[s.Name], s)
	}
	out := k.States()
	for n, st := range out {
		now := sum(n, by[n])
		now.Since = st.Since
		out[n] = now
	}
	return out, nil
}

// Initiate begins a new IKE SA of a tunnel beside what it has, unless one is being
// negotiated already.
func (k *Keeper) Initiate(ctx context.Context, name string) error {
	all, err := k.client.ListSAs(ctx, name)
	if err != nil {
		return err
	}
	if sum(name, all).Trying {
		return nil
	}
	if err := k.client.Initiate(ctx, name); err != nil {
		return fmt.Errorf("tunnel %s: %w", name, err)
	}
	return nil
}
