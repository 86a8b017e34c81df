package configure_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"komainu/tools/boxes"
	"komainu/tools/boxes/configure"
	"komainu/tools/boxes/scene"
)

// TestBootedCommit: a change that cuts the line undoes itself without a restart,
// and one commit lets somebody in by SSH; who isn't let in is written down.
func TestBootedCommit(t *testing.T) {
	ctx := machines(t)
	image, err := boxes.BuildImage(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := machine(t, ctx, image)
	if _, err := configure.Wizard(ctx, s); err != nil {
		t.Fatal(err)
	}
	if err := configure.Ping(ctx, s, scene.BoxAddress); err != nil {
		t.Fatal(err)
	}
	signer, line, err := configure.Key("sato")
	if err != nil {
		t.Fatal(err)
	}
	before := do(t, ctx, s, "show box --json")
	do(t, ctx, s, "configure")
	do(t, ctx, s, "set interface office address 10.1.4.21/24")
	do(t, ctx, s, "set allow door from office")
	do(t, ctx, s, "set allow door to box")
	do(t, ctx, s, "set allow door service tcp/8080")
	t.Log(do(t, ctx, s, "compare"))
	do(t, ctx, s, "no interface office address "+scene.BoxAddress+"/24")
	do(t, ctx, s, "set interface office address 10.1.5.20/24")
	do(t, ctx, s, "no interface office address 10.1.4.21/24")
	if out := do(t, ctx, s, "commit-confirm 20s cut"); !strings.Contains(out, "confirm") {
		t.Fatal(out)
	}
	began := time.Now()
	if err := configure.Echo(s, scene.BoxAddress); err == nil {
		t.Error("the box answers at an address that it gave up")
	}
	if err := configure.Ping(ctx, s, scene.BoxAddress); err != nil {
		t.Fatal(err)
	}
	t.Logf("reachable again after %v", time.Since(began))
	// The way is back a moment before the supervisor has written down that it is.
	for out := ""; !strings.Contains(out, "taken back"); {
		if out = do(t, ctx, s, "show history"); ctx.Err() != nil {
			t.Fatal(out)
		}
	}
	if a, b := configure.Booted(before), configure.Booted(do(t, ctx, s, "show box --json")); a == "" || a != b {
		t.Errorf("the box was restarted: %q, then %q", a, b)
	}

	do(t, ctx, s, "discard")
	do(t, ctx, s, "set interface office address 10.1.4.21/24")
	do(t, ctx, s, "set allow door from office")
	do(t, ctx, s, "set allow door to box")
	do(t, ctx, s, "set allow door service tcp/8080")
	do(t, ctx, s, "set user sato role field")
	do(t, ctx, s, `set user sato keys "`+line+`"`)
	do(t, ctx, s, "set console ssh office:2222")
	t.Log(do(t, ctx, s, "compare"))
	if out := do(t, ctx, s, "commit door"); !strings.Contains(out, "in use") {
		t.Fatal(out)
	}
	if out, err := configure.SSH(ctx, s, scene.BoxAddress+":2222", "sato", signer, "show status --json"); err != nil || !strings.Contains(out, "hinata-cho") {
		t.Errorf("%s %v", out, err)
	}
	if err := configure.Ping(ctx, s, "10.1.4.21"); err != nil {
		t.Error(err)
	}
	if err := configure.Knock(ctx, s, scene.BoxAddress+":8081"); err == nil {
		t.Error("a port that nobody allowed took a connection")
	}
	for began := time.Now(); ; { // equal refusals are told together, a moment later
		out := do(t, ctx, s, "show log access")
		if strings.Contains(out, scene.BoxAddress+":8081") {
			break
		}
		if time.Since(began) > 2*time.Minute {
			t.Error(out)
			break
		}
	}
	if out := do(t, ctx, s, "ping "+scene.ClientAddress+" 2"); !strings.Contains(out, "2 answered") {
		t.Error(out)
	}
}

// do is a command on the serial line.
func do(t *testing.T, ctx context.Context, s *scene.Scene, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	out, err := s.Console.Do(ctx, command)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
