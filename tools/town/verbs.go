package town

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"komainu/appliance/control"
	"komainu/failover/machine"
	"komainu/failover/standby"
	"komainu/tools/lab"
	"komainu/tools/ledger"
)

// Scenario parses a shipped scenario for this town; a nil World may be given
// to check it only.
func Scenario(w *World, name string) (*lab.Scenario, error) {
	src, err := fs.ReadFile(lab.Scenarios, "scenarios/"+name+".txt")
	if err != nil {
		return nil, fmt.Errorf("scenario %q: %w", name, err)
	}
	return ScenarioText(w, name, string(src))
}

// ScenarioText parses a scenario that isn't shipped.
func ScenarioText(w *World, name, src string) (*lab.Scenario, error) {
	return lab.ParseScenario("scenarios/"+name+".txt", src, w.verbs())
}

func (w *World) verbs() []lab.Verb {
	var t *lab.Town
	do := (func(context.Context, lab.Step) error)(nil)
	if w != nil {
		t, do = w.Town, w.do
	}
	verbs := append(t.Verbs(), lab.AgentVerbs(do)...)
	for i, v := range verbs {
		if w != nil && strings.HasPrefix(v.Usage, "restart ") {
			verbs[i].Do = w.restart
		}
	}
	return verbs
}

// restart kills a process that the host's supervisor starts again.
func (w *World) restart(ctx context.Context, s lab.Step) error {
	h, err := w.Host(s.Args[2])
	if err != nil {
		return err
	}
	if err := h.Kill(s.Args[0], syscall.SIGKILL); err != nil {
		return err
	}
	for { // the new one answers, and has looked at its servers
		st, err := w.Status(ctx, h)
		if err == nil && !slices.ContainsFunc(st.Databases, func(d control.Database) bool { return d.Role == "unknown" }) {
			return nil
		}
		if err := pause(ctx, w.pollEvery()); err != nil {
			return err
		}
	}
}

// do plays the verbs that talk to agents and clerks.
func (w *World) do(ctx context.Context, s lab.Step) error {
	switch s.Verb {
	case "start":
		w.noteModes()
		w.StartClerks(argument(s, 1))
		return nil
	case "stop":
		w.StopClerks(argument(s, 1))
		return nil
	case "begin":
		return w.begin(ctx, s)
	case "end":
		w.end()
		return nil
	case "order":
		return w.orderStep(ctx, s)
	case "refuse":
		var e *control.Error
		r, err := w.Order(ctx, machine.Write, s.Args[1], s.Args[2], 0)
		if err == nil && !r.OK || errors.As(err, &e) {
			return nil
		}
		return fmt.Errorf("the order was carried out: %+v, %w", r, err)
	case "expect":
		return w.expect(ctx, s)
	}
	return w.within(ctx, s)
}

func argument(s lab.Step, i int) string {
	if len(s.Args) > i {
		return s.Args[i]
	}
	return ""
}

// Order gives the town-hall agent an order and waits for its end.
func (w *World) Order(ctx context.Context, kind machine.OrderKind, group, reason string, count int32) (machine.Reply, error) {
	id := fmt.Sprintf("%s-%d", kind, time.Now().UnixNano())
	o := machine.Order{ID: id, Kind: kind, Group: group, Reason: reason, Count: count}
	if w.Boxes != nil {
		return w.Boxes.Order(ctx, o)
	}
	var r machine.Reply
	err := w.Agent(w.Hall).Post(ctx, control.OrdersPath, o, &r)
	return r, err
}

func (w *World) orderStep(ctx context.Context, s lab.Step) error {
	kind := map[string]machine.OrderKind{"write": machine.Write, "dc": machine.SwitchDC, "local": machine.SwitchLocal,
		"hold": machine.Hold, "release": machine.Release, "accept-orphans": machine.AcceptOrphans}[s.Args[0]]
	var count int32
	if kind == machine.AcceptOrphans {
		st, err := w.Status(ctx, w.Hall)
		if err != nil {
			return err
		}
		count = int32(st.Databases[0].Orphans)
	}
	if kind == machine.SwitchDC && w.Boxes == nil {
		// A return takes its time and may wait for orphans: its end is what
		// later lines look for.
		started := make(chan error, 1)
		go func() { // ends with the order, at the latest with the town's agent
			r, err := w.Order(context.WithoutCancel(ctx), kind, s.Args[1], argument(s, 2), 0)
			if err == nil && !r.OK {
				err = fmt.Errorf("refused: %s %v", r.Code, r.Args)
			}
			started <- err
		}()
		select {
		case err := <-started:
			return err
		case <-time.After(200 * time.Millisecond): // a refusal comes at once
			return nil
		}
	}
	r, err := w.Order(ctx, kind, s.Args[1], argument(s, 2), count)
	if err == nil && !r.OK {
		err = fmt.Errorf("refused: %s %v", r.Code, r.Args)
	}
	return err
}

// within waits for a sentence to become true.
func (w *World) within(ctx context.Context, s lab.Step) error {
	from := time.Now()
	for {
		why := w.true(ctx, s, from)
		if why == nil {
			return nil
		}
		if pause(ctx, w.pollEvery()) != nil {
			return why
		}
	}
}

func (w *World) true(ctx context.Context, s lab.Step, from time.Time) error {
	switch s.Verb {
	case "reads", "writes":
		good, where := ledger.GoodRead, AtDC
		if s.Verb == "writes" {
			good = ledger.GoodWrite
		}
		if s.Args[0] == "local" {
			where = Local
		}
		return w.seen(from, s.Text, func(op ledger.Op) bool { return good(op) && where(op) })
	case "refused":
		return w.seen(from, s.Text, func(op ledger.Op) bool { return op.SQLState == s.Args[0] })
	case "returned":
		return w.returned(ctx, s.Args[0])
	case "drift", "settled":
		return w.network(ctx, s)
	case "fenced":
		st, err := w.Status(ctx, w.DB)
		if err != nil {
			return err
		}
		if st.Databases[0].Ready {
			return errors.New("the DC's gate is open")
		}
		// An order that follows needs the town hall to know it as well.
		if st, err = w.Status(ctx, w.Hall); err != nil {
			return err
		}
		if d := st.Databases[0].Remote; d.Open || d.AgeS < 0 || d.AgeS > 1 {
			return fmt.Errorf("the town hall hasn't heard it yet: %+v", d)
		}
		return nil
	}
	st, err := w.Status(ctx, w.Hall)
	if err != nil {
		return err
	}
	g, d := st.Groups[0], st.Databases[0]
	switch s.Verb {
	case "carries":
		if !slices.ContainsFunc(st.Paths, func(p control.Path) bool { return p.Name == s.Args[0] && p.Carries && p.State == "up" }) {
			return fmt.Errorf("the paths are %+v", st.Paths)
		}
		return nil
	case "ready":
		if !d.Ready || !st.Verdict.Usable || !d.Remote.Open || d.Replay == "0/0" {
			return fmt.Errorf("standby ready %v (%s %v), DC open %v, verdict %s", d.Ready, d.Role, d.ReadyReasons, d.Remote.Open, st.Verdict.Reason)
		}
		return nil
	case "verdict":
		if st.Verdict.Reason != s.Args[0] {
			return fmt.Errorf("the verdict is %s (%s)", st.Verdict.Reason, st.Verdict.Place)
		}
		return nil
	case "mode":
		if g.Mode != s.Args[1] {
			return fmt.Errorf("mode is %s (%s: %s %v), DC: %+v", g.Mode, g.Step, g.Reason, g.Blocks, d.Remote)
		}
		return nil
	case "waits":
		for _, b := range append(g.Blocks, d.ReadyReasons...) {
			if strings.Contains(b.Code, s.Args[1]) {
				return nil
			}
		}
		return fmt.Errorf("it waits for %v, the standby for %v", g.Blocks, d.ReadyReasons)
	}
	return fmt.Errorf("no such verb: %s", s.Verb)
}

// network looks at what the hall's agent says of links and addresses.
func (w *World) network(ctx context.Context, s lab.Step) error {
	var n control.Network
	if err := w.Agent(w.Hall).Get(ctx, control.NetworkPath, &n); err != nil {
		return err
	}
	if s.Verb == "settled" {
		if !n.Settled {
			return fmt.Errorf("not as configured: %v", n.Problems)
		}
		return nil
	}
	for _, d := range n.Drift {
		if strings.Contains(d.Change, s.Args[0]) {
			return nil
		}
	}
	return fmt.Errorf("told of by hand: %v", n.Drift)
}

// returned accepts the orphans that are shown, as an operator would after
// having read the list.
func (w *World) returned(ctx context.Context, group string) error {
	st, err := w.Status(ctx, w.Hall)
	if err != nil {
		return err
	}
	if st.Groups[0].Mode == "dc" {
		return nil
	}
	for _, b := range st.Groups[0].Blocks {
		if b.Code == "block-orphans" {
			r, err := w.Order(ctx, machine.AcceptOrphans, group, "", int32(st.Databases[0].Orphans))
			if err == nil && !r.OK {
				err = fmt.Errorf("refused: %s %v", r.Code, r.Args)
			}
			if err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("mode is %s: %v", st.Groups[0].Mode, st.Groups[0].Blocks)
}

func (w *World) seen(from time.Time, what string, keep func(ledger.Op) bool) error {
	if _, ok := ledger.First(w.Recorder.Ops(), from, keep); !ok {
		return fmt.Errorf("no clerk saw it: %s", what)
	}
	return nil
}

// begin leaves a transaction open on the primary, with N subtransactions.
func (w *World) begin(ctx context.Context, s lab.Step) error {
	n, err := strconv.Atoi(s.Args[2])
	if err != nil {
		return err
	}
	cfg, err := pgx.ParseConfig(DirectDSN)
	if err != nil {
		return err
	}
	cfg.DialFunc = dialer(w.App)
	if w.open, err = pgx.ConnectConfig(ctx, cfg); err != nil {
		return err
	}
	stmts := []string{"begin"}
	for i := range n {
		stmts = append(stmts, fmt.Sprintf("savepoint s%d; update household set address = address where id = %d", i, i+1))
	}
	for _, q := range stmts {
		if _, err := w.open.Exec(ctx, q); err != nil {
			return err
		}
	}
	// The standby's next start begins at a checkpoint that was made meanwhile.
	for _, h := range []*lab.Host{w.DB, w.Hall} {
		if err := w.checkpoint(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// checkpoint makes one on a host's server: on a standby, of what it has replayed.
func (w *World) checkpoint(ctx context.Context, h *lab.Host) error {
	if h == w.Hall {
		if err := w.replayed(ctx); err != nil {
			return err
		}
	}
	conn, err := w.server(ctx, h)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "checkpoint")
	return err
}

// server connects to a host's own server, past everything.
func (w *World) server(ctx context.Context, h *lab.Host) (*pgx.Conn, error) {
	port := "5432"
	if h == w.Hall {
		port = strconv.Itoa(localPort)
	}
	return pgx.Connect(ctx, "host="+filepath.Join(h.StateDir(), "databases", Group, "run")+" port="+port+" user=postgres dbname=postgres")
}

// replayed waits until the standby has replayed what the primary has now.
func (w *World) replayed(ctx context.Context) error {
	conn, err := w.server(ctx, w.DB)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var flush string // of now: the agent's picture is as old as its last look
	if err := conn.QueryRow(ctx, "select pg_current_wal_flush_lsn()::text").Scan(&flush); err != nil {
		return err
	}
	want, err := standby.ParseLSN(flush)
	if err != nil {
		return err
	}
	for {
		st, err := w.Status(ctx, w.Hall)
		if err != nil {
			return err
		}
		if have, err := standby.ParseLSN(st.Databases[0].Replay); err == nil && have >= want {
			return nil
		}
		if err := pause(ctx, w.pollEvery()); err != nil {
			return err
		}
	}
}

func (w *World) end() {
	if w.open != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = w.open.Close(ctx) // the server may have gone meanwhile
		w.open = nil
	}
}

func (w *World) noteModes() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.modes = w.moves()
}

// moves counts the phases that the group has gone through.
func (w *World) moves() int {
	n := 0
	for _, e := range w.Events.All() {
		if e.Host == "hall" && strings.HasPrefix(e.Code, "phase-") {
			n++
		}
	}
	return n
}

// expect looks back over the whole scenario.
func (w *World) expect(ctx context.Context, s lab.Step) error {
	ops := w.Recorder.Ops()
	bad := func(keep func(ledger.Op) bool) error {
		for _, op := range ops {
			if !op.OK && keep(op) {
				return fmt.Errorf("%s of %s at %s failed after %v: %s %s", op.Kind, op.Clerk, op.Start.Format("15:04:05.000"), op.End.Sub(op.Start), op.SQLState, op.Err)
			}
		}
		return nil
	}
	switch s.Args[0] {
	case "no-lost-rows":
		t, err := w.Tally(ctx)
		if err != nil {
			return err
		}
		if len(t.Lost)+len(t.Undead)+len(t.Unknown)+len(t.DuplicateNumbers)+len(t.DuplicateCertificates) > 0 || t.OrphanRecall < 1 || t.OrphanPrecision < 1 {
			return fmt.Errorf("the account doesn't balance: %+v", t)
		}
		return nil
	case "orphans":
		n, err := w.orphans()
		if err == nil && (len(n) > 0) != (s.Args[1] == "some") {
			err = fmt.Errorf("%d orphans are listed", len(n))
		}
		return err
	case "no-failed-operation":
		return bad(func(ledger.Op) bool { return true })
	case "no-failed-connect":
		// Only the hand-over is meant: from the drain to the end.
		e, ok := w.Events.Last("hall", "phase-parking", w.began)
		return bad(func(op ledger.Op) bool { return ok && op.Kind == ledger.Connect && op.Start.After(e.At()) })
	case "no-mode-change":
		w.mu.Lock()
		defer w.mu.Unlock()
		if n := w.moves() - w.modes; n != 0 {
			return fmt.Errorf("the group moved %d times", n)
		}
		return nil
	case "dual-write", "no-dual-write":
		_, ok := w.Events.Last("hall", "dual-write-window", w.began)
		if ok != (s.Args[0] == "dual-write") {
			return fmt.Errorf("dual-write window seen: %v", ok)
		}
		return nil
	case "read-gap", "write-gap":
		keep := ledger.GoodRead
		if s.Args[0] == "write-gap" {
			keep = ledger.GoodWrite
		}
		limit, err := time.ParseDuration(s.Args[2])
		if err != nil {
			return err
		}
		g := ledger.LongestGap(ops, w.began, time.Now(), keep)
		if g.Length() > limit {
			return fmt.Errorf("gap of %v at %s", g.Length(), g.From.Format("15:04:05.000"))
		}
		return nil
	}
	return fmt.Errorf("no such expectation: %v", s.Args)
}
