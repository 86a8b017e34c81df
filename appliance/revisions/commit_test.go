package revisions

import (
	"context"
	"errors"
	"testing"

	"komainu/appliance/control"
	"komainu/ntp/instant"
)

// TestRefusedAndTakenBack: stale bases, failures of the box and deadlines leave
// the old file.
func TestRefusedAndTakenBack(t *testing.T) {
	now := instant.Instant(0)
	k := keeper(t, t.TempDir(), "a", &now, -1)
	if err := k.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit := func(o control.CommitOrder, code string) {
		t.Helper()
		_, err := k.commit(t.Context(), o)
		var e *control.Error
		if errors.As(err, &e); e == nil && code != "" || e != nil && e.Code != code {
			t.Fatalf("%v, want %q", err, code)
		}
	}
	commit(control.CommitOrder{Text: "old"}, "")
	commit(control.CommitOrder{Text: "new", Base: 7}, "config-stale")
	works := k.o.Apply
	k.o.Apply = func(_ context.Context, _, text []byte) ([]string, []string, error) {
		if string(text) == "bad" {
			return nil, nil, errPower
		}
		return nil, nil, nil
	}
	commit(control.CommitOrder{Text: "bad"}, "config-restored")
	k.o.Apply = works
	commit(control.CommitOrder{Text: "new", ConfirmS: 60}, "")
	commit(control.CommitOrder{Text: "newer"}, "config-waits")
	now = now.Add(60e9)
	if err := k.expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, k); got != "old" {
		t.Fatalf("after the deadline the file is %q", got)
	}
}
