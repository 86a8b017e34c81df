package vici

import (
	"context"
	"errors"
	"slices"
	"time"
)

// look has everything looked at soon.
func (k *Keeper) look() {
	select {
	case k.dirty <- struct{}{}:
	default: // it is to be done already
	}
}

// wait waits until a look is due: soon after something became known, else after
// a while, through which charon is asked for a sign of life.
func (k *Keeper) wait(ctx context.Context, cost time.Duration) error {
	pulse := time.NewTicker(k.cfg.Every)
	defer pulse.Stop()
	for due := time.Now().Add(max(k.cfg.Every, lookShare*cost)); ; {
		select {
		case <-k.dirty:
			select {
			case <-time.After(max(gather, cost)):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		case now := <-pulse.C:
			if !now.Before(due) {
				return nil
			}
			if _, err := k.client.Stats(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// looks compares all that charon has with what is known; a charon that doesn't
// answer ends it.
func (k *Keeper) looks(ctx context.Context, tell func(Event)) error {
	var cost time.Duration
	for {
		if err := k.wait(ctx, cost); err != nil {
			return err
		}
		k.mu.Lock()
		since := k.seq
		k.mu.Unlock()
		began := time.Now()
		all, err := k.client.ListSAs(ctx, "")
		if err != nil {
			return err
		}
		cost = time.Since(began)
		k.compare(all, since, tell)
		for _, r := range k.settled() {
			tell(r)
		}
		if err := errors.Join(k.clean(ctx, all), k.bury(ctx, all, tell)); err != nil {
			return err
		}
	}
}

// compare takes over what a look saw, but for tunnels that an event has told of
// since it began.
func (k *Keeper) compare(all []SA, since uint64, tell func(Event)) {
	by := map[string][]SA{}
	for _, s := range all {
		by[s.Name] = append(by[s.Name], s)
	}
	var changes []Changed
	k.order.Lock()
	defer k.order.Unlock()
	k.mu.Lock()
	names := map[string]bool{}
	for n := range k.wanted {
		names[n] = true
	}
	for n := range k.states {
		names[n] = true
	}
	for n := range names {
		if k.touched[n] > since {
			continue
		}
		if c, ok := k.take(sum(n, by[n])); ok {
			changes = append(changes, c)
		}
		if _, ok := k.wanted[n]; !ok && len(by[n]) == 0 {
			delete(k.states, n)
			delete(k.touched, n)
		}
	}
	k.mu.Unlock()
	for _, c := range changes {
		tell(c)
	}
}

// sum is the state of a tunnel with these SAs.
func sum(name string, all []SA) State {
	st := State{Name: name, SAs: len(all)}
	for _, s := range all {
		switch {
		case s.Up() && s.newer(st.SA):
			st.Up, st.SA = true, s
		case s.State == "CONNECTING" || s.State == "CREATED":
			st.Trying = true
		}
	}
	return st
}

// take keeps a state; ok: it is another one.
func (k *Keeper) take(st State) (c Changed, ok bool) {
	was, known := k.states[st.Name]
	st.Since = was.Since
	if !known || st.Up != was.Up {
		st.Since = time.Now().Add(-st.SA.Age)
	}
	k.states[st.Name] = st
	c.State = st
	if known && st.Up && was.Up {
		now, before := st.SA.child(), was.SA.child()
		c.Anew = st.SA.ID != was.SA.ID
		c.Rekeyed = c.Anew || now.SPIIn != before.SPIIn
		return c, c.Rekeyed || st.Trying != was.Trying
	}
	return c, !known || st.Up != was.Up || st.Trying != was.Trying
}

// heard takes an event.
func (k *Keeper) heard(p packet, tell func(Event)) {
	if p.name == "log" {
		k.logged(p.body)
		return
	}
	if p.name == "child-updown" && p.body.Text("up") == "yes" {
		for _, s := range sas(p.body) {
			if s.Up() {
				k.came(s, tell)
			}
		}
	}
	k.look()
}

// came takes an SA that is up.
func (k *Keeper) came(s SA, tell func(Event)) {
	k.order.Lock()
	defer k.order.Unlock()
	k.mu.Lock()
	k.seq++
	k.touched[s.Name] = k.seq
	st := k.states[s.Name]
	st.Name, st.Up, st.Trying, st.SA, st.SAs = s.Name, true, false, s, max(st.SAs, 1)
	c, ok := k.take(st)
	k.mu.Unlock()
	if ok {
		tell(c)
	}
}

// clean ends what nobody wants any more: of several SAs of one tunnel, all that
// the newest has replaced for a while. charon's uniqueness does that too, but only
// among SAs of the very same connection.
func (k *Keeper) clean(ctx context.Context, all []SA) error {
	newest := map[string]SA{}
	for _, s := range all {
		if s.Up() && s.newer(newest[s.Name]) {
			newest[s.Name] = s
		}
	}
	var end []uint32
	k.mu.Lock()
	there := map[uint32]bool{}
	for _, s := range all {
		if best, ok := newest[s.Name]; !ok || !s.Up() || s.ID == best.ID {
			continue
		}
		there[s.ID] = true
		if k.olds[s.ID].IsZero() {
			k.olds[s.ID] = time.Now()
		}
		if d := time.Since(k.olds[s.ID]); s.Initiator && d > oldOutlive || d > oldWaiting {
			end = append(end, s.ID)
		}
	}
	for id := range k.olds {
		if !there[id] {
			delete(k.olds, id)
		}
	}
	k.mu.Unlock()
	for _, id := range end {
		if err := k.client.TerminateID(ctx, id, true); err != nil {
			return err
		}
	}
	return nil
}

// bury ends SAs that charon believes in and whose association the kernel has no
// more: nothing passes them, and the peer can't know.
func (k *Keeper) bury(ctx context.Context, all []SA, tell func(Event)) error {
	var dead []SA
	k.mu.Lock()
	if len(k.missing) > 0 {
		for _, s := range all {
			if slices.ContainsFunc(s.Children, func(c Child) bool {
				return (c.State == "INSTALLED" || c.State == "REKEYING") && (k.missing[c.SPIIn] || k.missing[c.SPIOut])
			}) {
				dead = append(dead, s)
			}
		}
		clear(k.missing)
	}
	k.mu.Unlock()
	for _, s := range dead {
		tell(Emptied{Tunnel: s.Name})
		if err := k.client.TerminateID(ctx, s.ID, true); err != nil {
			return err
		}
	}
	return nil
}
