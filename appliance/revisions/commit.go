package revisions

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"komainu/appliance/control"
)

// commit puts a text into use. In this order: the text and that it is on its
// way, the file, the box, that it runs. Whatever breaks off in between is taken
// back, here or by the next Start.
func (k *Keeper) commit(ctx context.Context, o control.CommitOrder) (control.Committed, error) {
	ctx = context.WithoutCancel(ctx) // a change may cut the line that it came over
	if o.ConfirmS != 0 && (o.ConfirmS < 10 || o.ConfirmS > 86400) {
		return control.Committed{}, &control.Error{Code: "config-confirm-time"}
	}
	if err := k.begin(); err != nil {
		return control.Committed{}, err
	}
	defer k.end()
	if err := k.byHand(); err != nil {
		return control.Committed{}, refusal(err)
	}
	return k.replace(ctx, o)
}

// replace is commit for who has begun.
func (k *Keeper) replace(ctx context.Context, o control.CommitOrder) (control.Committed, error) {
	var none control.Committed
	x, text := k.index, []byte(o.Text)
	if x.Move != nil {
		return none, &control.Error{Code: "config-waits", Args: []string{strconv.Itoa(x.Move.To)}}
	}
	runs := x.find(x.Running)
	if o.Base != 0 && o.Base != x.Running {
		by := ""
		if runs != nil {
			by = runs.By
		}
		return none, &control.Error{Code: "config-stale", Args: []string{strconv.Itoa(x.Running), by, strconv.Itoa(o.Base)}}
	}
	if runs != nil && runs.Digest == digest(text) {
		return control.Committed{Revision: k.revision(*runs), Unchanged: true}, nil
	}
	if err := k.o.Check(text, o.Lang); err != nil {
		return none, &control.Error{Code: "config-invalid", Args: []string{err.Error()}}
	}
	e := entry{Number: x.Last + 1, At: k.o.Wall(), By: o.By, Comment: o.Comment, Digest: digest(text)}
	if err := k.o.Disk.Replace(k.textPath(e.Number), text, 0o600); err != nil {
		return none, refusal(err)
	}
	next := x.with(e)
	next.Move = &move{From: x.Running, To: e.Number, Boot: k.o.BootID, Confirm: time.Duration(o.ConfirmS * float64(time.Second))}
	if err := k.save(next); err != nil {
		return none, refusal(errors.Join(err, k.o.Disk.Remove(k.textPath(e.Number))))
	}
	old, err := k.text(x.Running)
	if err != nil {
		return none, k.undo(ctx, err, false)
	}
	if err := k.put(text); err != nil {
		return none, k.undo(ctx, err, false)
	}
	changes, restarted, err := k.o.Apply(ctx, old, text)
	if err != nil {
		return none, k.undo(ctx, err, true)
	}
	next.Running = e.Number
	m := *next.Move
	m.Done, m.Deadline = true, k.o.Now().Add(m.Confirm)
	next.Move = &m
	if o.ConfirmS == 0 {
		next.Move = nil
	}
	next, dropped := next.bounded()
	if err := k.save(next); err != nil {
		return none, k.undo(ctx, err, true)
	}
	for _, n := range dropped {
		_ = k.o.Disk.Remove(k.textPath(n)) // what stays is swept at the next start
	}
	return control.Committed{Revision: k.revision(e), Changes: changes, Restarted: restarted}, nil
}

// undo takes back what failed with cause; applied: the box has seen the text.
func (k *Keeper) undo(ctx context.Context, cause error, applied bool) error {
	apply := k.o.Apply
	if !applied {
		apply = nil
	}
	if _, _, err := k.takeBack(ctx, failed, apply); err != nil {
		return &control.Error{Code: "config-not-restored", Args: append([]string{err.Error()}, coded(cause)...)}
	}
	return &control.Error{Code: "config-restored", Args: coded(cause)}
}

// coded is an error as a code with its arguments.
func coded(err error) []string {
	var e *control.Error
	if errors.As(err, &e) {
		return append([]string{e.Code}, e.Args...)
	}
	return []string{"internal", err.Error()}
}

// takeBack puts the file before into its place, makes the box work with it
// (apply nil: nothing runs with the new one), and notes why. When apply fails,
// the move stays noted and is tried again.
func (k *Keeper) takeBack(ctx context.Context, why outcome, apply func(context.Context, []byte, []byte) ([]string, []string, error)) (changes, restarted []string, err error) {
	x := k.index
	m := *x.Move
	was, err := k.text(m.To)
	if err != nil {
		return nil, nil, err
	}
	old, err := k.text(m.From)
	if err != nil {
		return nil, nil, err
	}
	if err := k.put(old); err != nil {
		return nil, nil, err
	}
	if apply != nil {
		if changes, restarted, err = apply(ctx, was, old); err != nil {
			return nil, nil, err
		}
	}
	x = x.marked(m.To, why)
	x.Running, x.Move = m.From, nil
	return changes, restarted, k.save(x)
}

// byHand takes a file that somebody edited on the disk in as a revision. While
// a move is noted, the file belongs to the move.
func (k *Keeper) byHand() error {
	x := k.index
	if x.Move != nil {
		return nil
	}
	text, err := os.ReadFile(k.o.Config)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the next commit makes it; Start of a new box
	}
	if err != nil {
		return err
	}
	if runs := x.find(x.Running); runs != nil && runs.Digest == digest(text) {
		return nil
	}
	e := entry{Number: x.Last + 1, At: k.o.Wall(), By: "by hand", Digest: digest(text)}
	if err := k.o.Disk.Replace(k.textPath(e.Number), text, 0o600); err != nil {
		return err
	}
	x = x.with(e)
	x.Running = e.Number
	x, _ = x.bounded()
	return k.save(x)
}

// refusal is an error of the disk before anything was touched.
func refusal(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return &control.Error{Code: "disk-full", Args: []string{err.Error()}}
	}
	return fmt.Errorf("keep the configuration; nothing was changed: %w", err)
}
