package revisions

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"strconv"

	"komainu/appliance/control"
)

// Routes are what the Keeper answers, for pid1.sock.
func (k *Keeper) Routes() []control.Route {
	return []control.Route{
		{Pattern: "GET " + control.ConfigPath, Role: control.Viewer, Handle: k.getConfig},
		{Pattern: "GET " + control.CandidatePath, Role: control.Viewer, Handle: k.candidates.get},
		{Pattern: "POST " + control.CandidatePath, Role: control.Admin, Handle: k.keepCandidate},
		{Pattern: "GET " + control.HistoryPath, Role: control.Viewer, Handle: k.getHistory},
		{Pattern: "POST " + control.CommitPath, Role: control.Admin, Handle: func(ctx context.Context, r *control.Request) (any, error) {
			var o control.CommitOrder
			if err := r.Decode(&o); err != nil {
				return nil, err
			}
			return k.commit(ctx, o)
		}},
		{Pattern: "POST " + control.ConfirmPath, Role: control.Admin, Handle: func(_ context.Context, r *control.Request) (any, error) {
			var o control.ConfirmOrder
			if err := r.Decode(&o); err != nil {
				return nil, err
			}
			return k.confirm()
		}},
		{Pattern: "POST " + control.RollbackPath, Role: control.Admin, Handle: func(ctx context.Context, r *control.Request) (any, error) {
			var o control.RollbackOrder
			if err := r.Decode(&o); err != nil {
				return nil, err
			}
			return k.rollback(ctx, o)
		}},
	}
}

func (k *Keeper) getConfig(_ context.Context, r *control.Request) (any, error) {
	n := 0
	if q := r.Query("rev"); q != "" {
		var err error
		if n, err = strconv.Atoi(q); err != nil || n < 0 {
			return nil, &control.Error{Code: "bad-request", Args: []string{"rev=" + q}, Status: http.StatusBadRequest}
		}
	}
	// A file edited by hand is noticed; who changes the file now knows it already.
	if k.begin() == nil {
		err := k.byHand()
		k.end()
		if err != nil {
			return nil, refusal(err)
		}
	}
	x := k.snapshot()
	if n == 0 {
		n = x.Running
	}
	e := x.find(n)
	if e == nil {
		return nil, noRevision(n)
	}
	text, err := k.text(n)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noRevision(n)
	}
	return control.ConfigText{Revision: k.revision(*e), Text: string(text)}, err
}

func (k *Keeper) getHistory(context.Context, *control.Request) (any, error) {
	all := []control.Revision{}
	for _, e := range slices.Backward(k.snapshot().Revisions) {
		all = append(all, k.revision(e))
	}
	return all, nil
}

func (k *Keeper) confirm() (control.Committed, error) {
	if err := k.begin(); err != nil {
		return control.Committed{}, err
	}
	defer k.end()
	x := k.index
	if x.Move == nil {
		return control.Committed{}, &control.Error{Code: "config-none-waits"}
	}
	if !x.Move.Done || x.Move.over(k.o.BootID, k.o.Now()) {
		return control.Committed{}, &control.Error{Code: "config-confirm-late"}
	}
	x.Move = nil
	if err := k.save(x); err != nil {
		return control.Committed{}, refusal(err)
	}
	return control.Committed{Revision: k.revision(*x.find(x.Running))}, nil
}

// rollback commits an older text again; of what waits for a confirmation, the
// one before it is simply taken back.
func (k *Keeper) rollback(ctx context.Context, o control.RollbackOrder) (control.Committed, error) {
	ctx = context.WithoutCancel(ctx)
	if err := k.begin(); err != nil {
		return control.Committed{}, err
	}
	defer k.end()
	if m := k.index.Move; m != nil {
		if o.Revision != 0 && o.Revision != m.From {
			return control.Committed{}, &control.Error{Code: "config-waits", Args: []string{strconv.Itoa(m.To)}}
		}
		changes, restarted, err := k.takeBack(ctx, tookBack, k.o.Apply)
		if err != nil {
			return control.Committed{}, err
		}
		done := control.Committed{Changes: changes, Restarted: restarted}
		if e := k.index.find(k.index.Running); e != nil {
			done.Revision = k.revision(*e)
		}
		return done, nil
	}
	if err := k.byHand(); err != nil {
		return control.Committed{}, refusal(err)
	}
	n := o.Revision
	if n == 0 {
		n = k.index.before()
	}
	text, err := k.text(n)
	if n == 0 || errors.Is(err, fs.ErrNotExist) {
		return control.Committed{}, noRevision(n)
	}
	if err != nil {
		return control.Committed{}, err
	}
	if o.Comment == "" {
		o.Comment = "rollback " + strconv.Itoa(n)
	}
	return k.replace(ctx, control.CommitOrder{Text: string(text), By: o.By, Comment: o.Comment, Lang: o.Lang})
}

func (k *Keeper) snapshot() index {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.index
}

// revision is e as it is told.
func (k *Keeper) revision(e entry) control.Revision {
	x := k.snapshot()
	r := control.Revision{Number: e.Number, At: e.At, By: e.By, Comment: e.Comment, Outcome: string(e.Outcome), Runs: e.Number == x.Running}
	if m := x.Move; m != nil && m.Done && m.To == e.Number {
		r.BackS = max(0, m.Deadline.Sub(k.o.Now()).Seconds())
	}
	return r
}

func noRevision(n int) error {
	return &control.Error{Code: "config-no-revision", Args: []string{strconv.Itoa(n)}, Status: http.StatusNotFound}
}
