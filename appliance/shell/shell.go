// Package shell runs the agent: it turns what drivers report into events,
// executes the actions that Step returns, and reports their results. It is the
// one place where the agent and drivers meet, and holds no rule of behaviour.
// Start reading at Shell.Run and execute.
package shell

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"komainu/appliance/agent"
	"komainu/appliance/control"
	"komainu/drivers/beat"
	"komainu/drivers/clock"
	"komainu/drivers/files"
	"komainu/drivers/postgres"
	"komainu/drivers/probe"
	"komainu/drivers/units"
	"komainu/drivers/vici"
	"komainu/ntp/instant"
)

// Config is what a box is wired with.
type Config struct {
	Spec      agent.Spec
	State     string // directory of durable state
	Run       string // directory of sockets; empty after a boot
	Beats     []beat.PathConfig
	Orders    *Orders // nil: none
	Databases []Database
	Probes    []Probe
	Refusals  []Refusal
	Health    []netip.AddrPort          // listen addresses
	Time      bool                      // a time daemon belongs to this box
	Lacking   []string                  // names of secrets that aren't there, so that the network alone is kept
	Digest    string                    // SHA-256 of the configuration, hexadecimal
	Reload    func() (Reloading, error) // reads the configuration again
	// Keys are what a tunnel of the configuration (also of the one that Reload read
	// last) proves itself with, read anew each time.
	Keys func(tunnel string) (vici.Keys, error)
	// Certificates are those of all tunnels and of orders, read anew each time;
	// with an error those that can be used.
	Certificates func() ([]agent.Certificate, error)
}

// Database is one PostgreSQL cluster of this box.
type Database struct {
	Name     string
	Config   postgres.Config
	Slot     string // physical slot at the upstream that this box's standby uses
	Hosted   bool   // town hall: a copy; else the primary's host
	Archive  string // where orphan lists and local changes are kept, below State
	MaxRows  int    // texts kept of each listed transaction
	Password string // of the replication role, set on a new primary; empty: left alone
	Probe    string // of the probe role
}

// Probe is how a service's DC endpoint, and its stable address, are asked.
type Probe struct {
	Service string
	Every   time.Duration
	Timeout time.Duration
	DC      func() probe.Prober
	Stable  func() probe.Prober
}

// Shell runs one agent.
type Shell struct {
	cfg    Config
	agent  *agent.Agent
	events chan agent.Event
	asks   chan func(instant.Instant)
	boot   uint64

	beats    *beats
	carried  *pathprobes
	kernel   *kernel
	servers  map[string]*server
	probes   map[string]Probe
	orders   *ordering
	reloads  reloads
	refusals refusals
	drifts   drifts
	journal  *journal
	inFlight sync.Map // action id → context.CancelFunc
	work     sync.WaitGroup
	status   statusState
	returns  returning
	time     *timekeeping // nil: there is no time daemon
	box      *boxkeeping
	tunnels  *tunneling
}

// New makes a shell; nothing is touched before Run.
func New(cfg Config) *Shell {
	if cfg.Certificates == nil {
		cfg.Certificates = func() ([]agent.Certificate, error) { return nil, nil }
	}
	s := &Shell{cfg: cfg, agent: agent.New(cfg.Spec), events: make(chan agent.Event, 1024), asks: make(chan func(instant.Instant)),
		beats: newBeats(), carried: newPathprobes(), refusals: refusals{path: filepath.Join(cfg.State, "log", "access.ndjson")}, reloads: reloads{waiting: map[uint64]chan agent.Reloaded{}, digest: cfg.Digest}, servers: map[string]*server{}, probes: map[string]Probe{}, box: newBoxkeeping(cfg.Run, cfg.State)}
	sup := units.Client{Socket: filepath.Join(cfg.Run, "pid1.sock")}
	for _, d := range cfg.Databases {
		s.servers[d.Name] = newServer(d, launcher{sup})
	}
	s.tunnels = newTunneling(cfg, sup)
	for _, p := range cfg.Probes {
		s.probes[p.Service] = p
	}
	if cfg.Time {
		s.time = newTimekeeping(cfg.Run)
	}
	return s
}

// Run runs until ctx ends, then stops in order: peers are told, servers and
// steering stay as they are. Errors: state held by another agent, unreadable
// records, sockets that cannot be opened.
func (s *Shell) Run(ctx context.Context) (err error) {
	lock, err := files.Lock(filepath.Join(s.cfg.State, "agent.lock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	started, err := s.load()
	if err != nil {
		return err
	}
	// Before anything is touched that an agent on the same socket may hold.
	socket, err := control.Listen(ctx, filepath.Join(s.cfg.Run, "agent.sock"), 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if e := socket.Close(); !errors.Is(e, net.ErrClosed) { // Serve closes it too
			err = errors.Join(err, e)
		}
	}()
	if s.kernel, err = openKernel(s.cfg.Spec); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.kernel.close()) }()
	started.Gates = s.kernel.openGates(s.cfg.Spec)
	s.journal = newJournal(filepath.Join(s.cfg.State, "journal.ndjson"))

	// Drivers outlive the loop by a moment, so that the last heartbeat leaves.
	drivers, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, drivers := errgroup.WithContext(drivers)
	if err := s.open(drivers, group, socket); err != nil {
		stop()
		return errors.Join(err, group.Wait())
	}
	loopCtx, endLoop := context.WithCancel(ctx)
	defer endLoop()
	group.Go(func() error {
		defer stop()
		return s.loop(loopCtx, drivers, started)
	})
	err = group.Wait()
	s.work.Wait()
	for _, sv := range s.servers {
		sv.cluster.Close()
	}
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return err
}

// open starts everything that reports events.
func (s *Shell) open(ctx context.Context, g *errgroup.Group, socket net.Listener) error {
	// Sockets want their links and addresses. What can't be made so is tried
	// again, and told, by the agent.
	s.kernel.ground.set(ctx, agent.SetNetwork{Ground: s.cfg.Spec.Ground.All()})
	for _, c := range s.cfg.Beats {
		g.Go(func() error { return s.beats.run(ctx, c, s) })
	}
	for _, p := range s.cfg.Spec.Paths {
		if c, ok := s.cfg.beat(p.Name); ok && p.Tunnel {
			g.Go(func() error { return s.carried.run(ctx, c, s) })
		}
	}
	g.Go(func() error { return s.journal.run(ctx) })
	g.Go(func() error { return s.kernel.watch(ctx, s.event, s.beats.look) })
	if s.kernel.ground.filter != nil {
		g.Go(func() error { return s.refusals.run(ctx) })
	}
	if s.cfg.Keys != nil {
		g.Go(func() error { return s.tunnels.run(ctx, s.event) })
	}
	g.Go(func() error { return s.watchCertificates(ctx) })
	s.box.note = s.journal.write
	g.Go(func() error { return s.box.watch(ctx) })
	if s.time != nil {
		s.time.note = s.journal.write
		g.Go(func() error { return s.time.watch(ctx) })
	}
	for _, sv := range s.servers {
		g.Go(func() error { return s.look(ctx, sv) })
	}
	for _, p := range s.cfg.Probes {
		g.Go(func() error { return s.probe(ctx, p) })
	}
	for _, r := range s.cfg.Refusals {
		g.Go(func() error { return s.refuse(ctx, r) })
	}
	if err := s.openOrders(ctx, g); err != nil {
		return err
	}
	return s.openEdges(ctx, g, socket)
}

// event gives the loop something to decide; it blocks when the loop is behind.
func (s *Shell) event(ctx context.Context, e agent.Event) {
	select {
	case s.events <- e:
	case <-ctx.Done():
	}
}

// loop owns the agent.
func (s *Shell) loop(ctx, drivers context.Context, started agent.Started) error {
	timer, err := clock.NewTimer()
	if err != nil {
		return err
	}
	defer timer.Close()                  // nothing depends on it any more
	started.Wall = time.Now().UnixNano() // the network took its time meanwhile
	s.step(drivers, started)
	for {
		if err := timer.Reset(s.agent.Next()); err != nil {
			return err
		}
		select {
		case e := <-s.events:
			s.step(drivers, e)
		case ask := <-s.asks:
			ask(clock.Now())
		case <-timer.C():
			// What has arrived is heard before time passes: a late timer must
			// not turn a heartbeat that waits in the queue into silence.
			for more := true; more; {
				select {
				case e := <-s.events:
					s.step(drivers, e)
				default:
					more = false
				}
			}
			s.step(drivers, agent.Tick{Wall: time.Now().UnixNano()})
		case <-ctx.Done():
			s.step(drivers, agent.Stopping{})
			return ctx.Err()
		}
	}
}

func (s *Shell) step(ctx context.Context, e agent.Event) {
	for _, a := range s.agent.Step(clock.Now(), e) {
		s.execute(ctx, a)
	}
}

// ask runs f on the loop, with the agent at rest; false if the loop has ended.
func (s *Shell) ask(ctx context.Context, f func(now instant.Instant)) bool {
	done := make(chan struct{})
	select {
	case s.asks <- func(now instant.Instant) { f(now); close(done) }:
		<-done
		return true
	case <-ctx.Done():
		return false
	}
}

// execute runs one action. Those without an ID are done at once and in order;
// the others run beside the loop and end in a Done event.
func (s *Shell) execute(ctx context.Context, a agent.Action) {
	switch w := a.Do.(type) {
	case agent.SendBeat:
		s.beats.send(w)
		return
	case agent.SendProbe:
		s.carried.probe(ctx, w, s)
		return
	case agent.TellFound:
		s.carried.tell(w)
		return
	case agent.SendTrain:
		s.carried.train(w)
		return
	case agent.Note:
		s.status.note(w)
		s.drifts.note(w)
		if r := s.returns.take(w); r != nil {
			s.keepRecord(*r)
		}
		s.journal.write(w)
		return
	case agent.Alarm: // the set of them stands in the agent's picture
		s.journal.write(alarmNote(w))
		return
	case agent.Reloaded:
		s.reloads.answer(w)
		return
	case agent.Answer:
		s.orders.answer(w.Reply)
		return
	case agent.Cancel:
		if cancel, ok := s.inFlight.Load(w.Target); ok {
			cancel.(context.CancelFunc)()
		}
		return
	}
	wctx, cancel := context.WithTimeout(ctx, a.Deadline.Sub(clock.Now()))
	s.inFlight.Store(a.ID, cancel)
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		defer cancel()
		d := s.run(wctx, a)
		d.ID = a.ID
		s.inFlight.Delete(a.ID)
		s.event(ctx, d)
	}()
}

// run executes one action to its end.
func (s *Shell) run(ctx context.Context, a agent.Action) agent.Done {
	switch w := a.Do.(type) {
	case agent.SaveGroup:
		return result(ctx, s.saveGroup(w.Record), "state-not-saved")
	case agent.SaveDatabase:
		return result(ctx, s.saveDatabase(w.Record), "state-not-saved")
	case agent.Steer:
		return result(ctx, s.kernel.steer(ctx, w), "steer-failed")
	case agent.Retire:
		return s.kernel.retire(ctx, w)
	case agent.Prove:
		return s.prove(ctx, w.Service)
	case agent.SetNetwork:
		return s.kernel.ground.set(ctx, w)
	case agent.SetRoutes:
		return result(ctx, s.kernel.ground.setRoutes(w.Routes), "routes-failed")
	case agent.SetAddresses:
		return result(ctx, s.kernel.ground.setAddresses(w.Addresses), "addresses-failed")
	case agent.SetGate:
		if w.Gate.Open {
			if err := s.authorised(w.Gate.Name, a.Term); err != nil {
				return failed("stale-term", err)
			}
		}
		return result(ctx, s.kernel.gate(ctx, w), "gate-failed")
	case agent.Server:
		return s.serve(ctx, a, w)
	case agent.SetQueues:
		return s.kernel.queues.set(ctx, w, s.kernel.ground.link)
	case agent.SetTunnels:
		return s.tunnels.set(ctx, w)
	case agent.RenewTunnel:
		return s.tunnels.renew(ctx, w.Name)
	case agent.RestartDaemon:
		return s.tunnels.restart(ctx)
	case agent.SendOrder:
		return s.sendOrder(ctx, w)
	}
	return failed("internal", fmt.Errorf("no executor for %T", a.Do))
}

// result turns an error into an outcome: what ran out of time may still have
// happened.
func result(ctx context.Context, err error, code string) agent.Done {
	switch {
	case err == nil:
		return agent.Done{}
	case ctx.Err() != nil:
		return agent.Done{Outcome: agent.Unknown, Code: code, Args: []string{err.Error()}}
	}
	return failed(code, err)
}

func failed(code string, err error) agent.Done {
	return agent.Done{Outcome: agent.Failed, Code: code, Args: []string{err.Error()}}
}

func randomBoot() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint64(b[:]) | 1
}
