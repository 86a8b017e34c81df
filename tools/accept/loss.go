package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"komainu/appliance/control"
	"komainu/failover/machine"
	"komainu/tools/lab"
	"komainu/tools/ledger"
	"komainu/tools/town"
)

// interfaceDisabled: the database host's port goes dead.
func interfaceDisabled(ctx context.Context, r *run) error {
	begin := time.Now()
	if err := r.DB.Plug("eth0", false); err != nil {
		return err
	}
	st, at, err := r.status(ctx, alarmed("dc-unusable"))
	if err != nil {
		return err
	}
	text, err := r.console(ctx, "show", "status")
	ours := at.Sub(begin)
	r.row("AT-112", "the database host's interface disabled, console of the town hall watched",
		say(fmt.Sprintf("shown after %s: %s, %s %v", short(ours), st.Verdict.Place, st.Verdict.Reason, st.Verdict.Args), err), err == nil && text != "" && ours < 40*time.Second)
	return r.DB.Plug("eth0", true)
}

func alarmed(id string) func(control.Status) error {
	return func(st control.Status) error {
		for _, a := range st.Alarms {
			if a.ID == id {
				return nil
			}
		}
		return fmt.Errorf("no alarm %s; verdict %s, alarms %v", id, st.Verdict.Reason, st.Alarms)
	}
}

// lossOfSite: edge box and database host of the DC lose their power at once, so
// that nothing of it can be reached; work goes on at the town hall, and comes back.
func lossOfSite(ctx context.Context, r *run) error {
	const before = 100
	if err := r.insert(ctx, "AT-68", before, 1, func(int) {}); err != nil {
		return err
	}
	if _, err := r.arrived(ctx, "AT-68"); err != nil {
		return err
	}
	begin := time.Now()
	dark := make(chan error, 1)
	go func() { dark <- r.power(ctx, (*lab.Host).PowerOff, r.Edge, r.DB) }()
	if _, _, err := r.status(ctx, mode("local-read")); err != nil {
		return errors.Join(err, <-dark)
	}
	// The operator is a script, so that only the machine's time counts.
	reply, err := r.Order(ctx, machine.Write, town.Group, "site A is lost", 0)
	if err != nil || !reply.OK {
		return errors.Join(fmt.Errorf("write order: %+v: %w", reply, err), <-dark)
	}
	var wrote time.Time
	var count int
	err = until(ctx, func() error {
		c, err := connect(ctx, r.Clients[0], town.StableDSN)
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		if _, err := c.Exec(ctx, "insert into accept values ('AT-70', 1, repeat('x', 600)), ('AT-70', 2, repeat('y', 400))"); err != nil {
			return err
		}
		wrote = time.Now()
		return c.QueryRow(ctx, "select count(*) from accept where run = 'AT-68'").Scan(&count)
	})
	if err := errors.Join(err, <-dark); err != nil {
		return err
	}
	took := wrote.Sub(begin)
	r.row("AT-68", "the DC's edge box and database host powered off at once, write order given as soon as the town hall reads", fmt.Sprintf("first write %s after the loss, %d of %d rows there", short(took), count, before), took <= 2*time.Second && count == before)
	if err := r.consoleOfB(ctx, begin); err != nil {
		return err
	}
	if err := r.power(ctx, (*lab.Host).PowerOn, r.DB); err != nil {
		return err
	}
	return r.pullBack(ctx)
}

func (r *run) power(ctx context.Context, do func(*lab.Host, context.Context) error, hosts ...*lab.Host) error {
	var all sync.WaitGroup
	errs := make([]error, len(hosts))
	for i, h := range hosts {
		all.Go(func() { errs[i] = do(h, ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// consoleOfB: what the town hall's console says while site A is dark, and when
// its edge box alone is back.
func (r *run) consoleOfB(ctx context.Context, begin time.Time) error {
	st, _, err := r.status(ctx, alarmed("dc-unusable"))
	if err != nil {
		return err
	}
	e, _ := r.Events.First("hall", "alarm-raised", begin)
	text, err := r.console(ctx, "show", "status")
	if err != nil {
		return err
	}
	code, err := r.healthz(ctx)
	warned := "alarms " + alarmList(st) + fmt.Sprintf("; /healthz %d", code)
	if e.Code != "" {
		warned += ", first after " + short(e.At().Sub(begin))
	}
	r.row("AT-92", "console and health endpoint of the town hall while the DC is dark", say(warned, err), err == nil && code == http.StatusServiceUnavailable)

	if err := r.power(ctx, (*lab.Host).PowerOn, r.Edge); err != nil {
		return err
	}
	st, _, err = r.status(ctx, func(st control.Status) error {
		if st.Verdict.Usable || st.Verdict.Place != "dc-service" {
			return fmt.Errorf("verdict %+v", st.Verdict)
		}
		return nil
	})
	if err != nil {
		return err
	}
	text2, err := r.console(ctx, "show", "status")
	ok := err == nil && strings.TrimSpace(text) != "" && text != text2
	r.row("AT-93", "console of the town hall, DC dark; then its edge box alone is back, the database host not",
		say(fmt.Sprintf("first the line is named, then %s: %s %v", st.Verdict.Place, st.Verdict.Reason, st.Verdict.Args), err), ok)
	return nil
}

func alarmList(st control.Status) string {
	var ids []string
	for _, a := range st.Alarms {
		ids = append(ids, a.ID+" ("+a.Subject+")")
	}
	return strings.Join(ids, ", ")
}

func (r *run) healthz(ctx context.Context) (int, error) {
	t := &http.Transport{DialContext: r.Hall.Dial, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+lab.Hall4+":8443/healthz", nil)
	if err != nil {
		return 0, err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// pullBack returns to the recovered DC with the kilobyte that was written
// meanwhile. It is judged by what working clerks feel: they go on at the town
// hall while the DC's cluster is kept, compared and rewound; how long that takes
// depends on the cluster's size and stands beside it.
func (r *run) pullBack(ctx context.Context) error {
	if _, _, err := r.status(ctx, func(st control.Status) error {
		if d := st.Databases[0].Remote; d.Phase != "fenced" || d.Role != "stopped" || d.AgeS > 1 {
			return fmt.Errorf("the database host is %+v", d)
		}
		return nil
	}); err != nil {
		return err
	}
	r.StartClerks("")
	begin := time.Now()
	reply, err := r.Order(ctx, machine.SwitchDC, town.Group, "site A is back", 0)
	if err != nil || !reply.OK {
		return fmt.Errorf("return: %+v: %w", reply, err)
	}
	took := time.Since(begin)
	var h town.Handover
	err = until(ctx, func() (err error) { // a clerk's next operation ends the pause
		h, err = r.Handover(begin)
		return err
	})
	r.StopClerks("")
	if err != nil {
		return err
	}
	c, err := connect(ctx, r.Clients[0], town.StableDSN)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	addr, _, err := where(ctx, c)
	if err != nil {
		return err
	}
	var n int
	if err := c.QueryRow(ctx, "select count(*) from accept where run = 'AT-70'").Scan(&n); err != nil {
		return err
	}
	paused := max(h.PauseRead, h.PauseWrite) + h.Drain
	r.row("AT-70", "return to the recovered DC under working clerks, after 1 KB was written at the town hall; judged by their pause",
		fmt.Sprintf("%d/2 rows at %s; pause %s for reads, %s for writes, %d failed connects; whole return %s", n, addr, short(h.PauseRead), short(h.PauseWrite), h.FailedConnects, short(took)),
		n == 2 && atDC(addr) && paused <= 3*time.Second)
	return nil
}

// gap: the DC goes on acknowledging what the town hall never gets; the report
// must name exactly that.
func gap(ctx context.Context, r *run) error {
	r.StartClerks("at-dc")
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	r.lines((*lab.Line).Cut)
	if _, _, err := r.status(ctx, mode("local-read")); err != nil {
		return err
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	r.StopClerks("at-dc")
	if reply, err := r.Order(ctx, machine.Write, town.Group, "both lines are cut", 0); err != nil || !reply.OK {
		return fmt.Errorf("write order: %+v: %w", reply, err)
	}
	real, err := r.missing(ctx)
	if err != nil {
		return err
	}
	st, err := r.Status(ctx, r.Hall)
	if err != nil {
		return err
	}
	known := st.Groups[0].Loss
	r.lines((*lab.Line).Heal)
	if _, _, err := r.status(ctx, func(st control.Status) error {
		if d := st.Databases[0].Remote; d.Phase != "fenced" || d.Role != "stopped" || d.AgeS > 1 {
			return fmt.Errorf("the database host is %+v", d)
		}
		return nil
	}); err != nil {
		return err
	}
	returned := make(chan error, 1)
	go func() { // ends with the order
		reply, err := r.Order(ctx, machine.SwitchDC, town.Group, "the lines are back", 0)
		if err == nil && !reply.OK {
			err = fmt.Errorf("return: %+v", reply)
		}
		returned <- err
	}()
	st, _, err = r.status(ctx, func(st control.Status) error {
		if st.Databases[0].Remote.Phase != "awaiting" {
			return fmt.Errorf("the return waits for %v", st.Groups[0].Blocks)
		}
		return nil
	})
	if err != nil {
		return err
	}
	reported := st.Databases[0].Orphans
	begin := time.Now()
	if reply, err := r.Order(ctx, machine.AcceptOrphans, town.Group, "seen", int32(reported)); err != nil || !reply.OK {
		return fmt.Errorf("accept %d orphans: %+v: %w", reported, reply, err)
	}
	if err := <-returned; err != nil {
		return err
	}
	took := time.Since(begin)
	t, err := r.Tally(ctx)
	if err != nil {
		return err
	}
	ok := reported == real && real > 0 && t.Orphaned == real && len(t.Lost)+len(t.Undead)+len(t.Unknown) == 0 && t.OrphanPrecision == 1 && t.OrphanRecall == 1
	r.row("AT-18", "both lines cut while the DC went on writing for a second; the report is what the return lists",
		fmt.Sprintf("%d rows reported, %d really missing, 0 lost; known at the write order: %s", reported, real, known), ok)
	if x, served := r.results["AT-62"]; served { // the other half of that row
		x.Ours += fmt.Sprintf("; after local writes %s from the order", short(took))
		r.results["AT-62"] = x
	}
	return nil
}

// missing counts the acknowledged writes that the town hall's server lacks.
func (r *run) missing(ctx context.Context) (int, error) {
	c, err := connect(ctx, r.Clients[0], town.StableDSN)
	if err != nil {
		return 0, err
	}
	defer c.Close(ctx)
	present, err := ledger.Present(ctx, c)
	if err != nil {
		return 0, err
	}
	there := map[int64]bool{}
	for _, n := range present {
		there[n] = true
	}
	n := 0
	for number, fate := range r.Ledger.Fates() {
		if fate == ledger.Acknowledged && !there[number] {
			n++
		}
	}
	return n, nil
}
