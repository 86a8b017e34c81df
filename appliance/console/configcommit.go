package console

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

func commitNow(ctx context.Context, in *Invocation) error {
	return in.commit(ctx, 0, strings.Join(in.Args, " "))
}

// How long `commit-confirm` waits unless told, and the bounds of what it is told.
const (
	confirmUsual = 10 * time.Minute
	confirmLeast = 10 * time.Second
	confirmMost  = 24 * time.Hour
)

func commitConfirm(ctx context.Context, in *Invocation) error {
	wait := confirmUsual
	if word := in.Args[0]; word != "" {
		var err error
		if wait, err = confirmTime(word); err != nil {
			return err
		}
	}
	return in.commit(ctx, wait, strings.Join(in.Args[1:], " "))
}

// confirmTime reads minutes, "5", or seconds, "30s".
func confirmTime(word string) (time.Duration, error) {
	unit, digits := time.Minute, word
	if s, ok := strings.CutSuffix(word, "s"); ok {
		unit, digits = time.Second, s
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || n > int(confirmMost/time.Second) || time.Duration(n)*unit < confirmLeast || time.Duration(n)*unit > confirmMost {
		return 0, usage("config-confirm-time")
	}
	return time.Duration(n) * unit, nil
}

// commit puts the candidate into use. It stays while it waits for `confirm`, so
// that the person can go on if it is taken back.
func (in *Invocation) commit(ctx context.Context, wait time.Duration, comment string) error {
	mine, err := in.candidate(ctx)
	if err != nil {
		return err
	}
	runs, err := in.revision(ctx, 0)
	if err != nil {
		return err
	}
	now := runs.Revision
	switch {
	case !mine.Exists:
		return &control.Error{Code: "candidate-none"}
	case now.BackS > 0:
		return &control.Error{Code: "config-waits", Args: []string{strconv.Itoa(now.Number)}}
	case mine.Base != now.Number:
		return &control.Error{Code: "candidate-stale", Args: []string{strconv.Itoa(now.Number), now.By, now.At.Format(revisionTime), strconv.Itoa(mine.Base)}}
	}
	if in.Role < control.Admin {
		if table := guarded(runs.Text, mine.Text); table != "" {
			return &control.Error{Code: "candidate-guarded", Args: []string{table}}
		}
	}
	order := control.CommitOrder{Text: mine.Text, Base: mine.Base, By: in.User, Comment: comment, Lang: in.Lang, ConfirmS: wait.Seconds()}
	var done control.Committed
	if err := in.Box.Post(ctx, control.CommitPath, order, &done); err != nil {
		return err
	}
	if wait == 0 || done.Unchanged {
		if err := in.forget(ctx); err != nil {
			return err
		}
	}
	return in.committed(done)
}

// guarded is a table that only an administrator may change, and is changed: who
// may log in and order, and whose images are trusted. What isn't TOML the check
// of the commit refuses.
func guarded(before, after string) string {
	var a, b map[string]any
	if toml.Unmarshal([]byte(after), &b) != nil || toml.Unmarshal([]byte(before), &a) != nil {
		return ""
	}
	for _, table := range []string{"console", "image", "orders", "user"} {
		if !reflect.DeepEqual(a[table], b[table]) {
			return table
		}
	}
	return ""
}

// committed tells what a commit did.
func (in *Invocation) committed(done control.Committed) error {
	if in.JSON {
		return json.NewEncoder(in.Out).Encode(done)
	}
	r := done.Revision
	n := strconv.Itoa(r.Number)
	if done.Unchanged {
		return in.tell("commit-unchanged", n)
	}
	var b strings.Builder
	fmt.Fprintln(&b, say.Text(in.Lang, "commit-done", n))
	if len(done.Changes) == 0 {
		fmt.Fprintln(&b, say.Text(in.Lang, "commit-no-changes"))
	} else {
		fmt.Fprintln(&b, say.Text(in.Lang, "commit-changes"))
	}
	for _, c := range done.Changes {
		fmt.Fprintln(&b, "  "+strings.Join(wrap(c, screen-2), "\n    "))
	}
	if len(done.Restarted) > 0 {
		fmt.Fprintln(&b, say.Text(in.Lang, "commit-restarted", done.Restarted...))
	}
	if r.BackS > 0 {
		fmt.Fprintln(&b, strings.Join(wrap(say.Text(in.Lang, "commit-until", until(r), span(in.Lang, r.BackS)), screen), "\n"))
	}
	_, err := fmt.Fprint(in.Out, b.String())
	return err
}

// confirm keeps what waits. The candidate that it was made from goes, unless it
// was edited meanwhile; then it is the next change.
func confirm(ctx context.Context, in *Invocation) error {
	var done control.Committed
	if err := in.Box.Post(ctx, control.ConfirmPath, control.ConfirmOrder{By: in.User}, &done); err != nil {
		return err
	}
	if in.JSON {
		if err := json.NewEncoder(in.Out).Encode(done); err != nil {
			return err
		}
	} else if err := in.tell("commit-confirmed", strconv.Itoa(done.Revision.Number)); err != nil {
		return err
	}
	if done.Revision.By != in.User {
		return nil
	}
	mine, err := in.candidate(ctx)
	if err != nil || !mine.Exists {
		return err
	}
	runs, err := in.revision(ctx, 0)
	if err != nil {
		return err
	}
	if mine.Text == runs.Text {
		return in.forget(ctx)
	}
	order := control.CandidateOrder{User: in.User, Text: mine.Text, Base: runs.Revision.Number}
	return in.Box.Post(ctx, control.CandidatePath, order, nil)
}

func rollback(ctx context.Context, in *Invocation) error {
	n := 0
	if in.Args[0] != "" {
		var err error
		if n, err = number(in.Args[0]); err != nil {
			return err
		}
	}
	if in.Role < control.Admin {
		runs, err := in.revision(ctx, 0)
		if err != nil {
			return err
		}
		if runs.Revision.BackS == 0 || n != 0 { // not only what waits would go
			return &control.Error{Code: "access-refused", Args: []string{in.User, control.Admin.String()}}
		}
	}
	var done control.Committed
	order := control.RollbackOrder{Lang: in.Lang, Revision: n, By: in.User, Comment: strings.Join(in.Args[1:], " ")}
	if err := in.Box.Post(ctx, control.RollbackPath, order, &done); err != nil {
		return err
	}
	return in.committed(done)
}
