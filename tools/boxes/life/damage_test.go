package life_test

import (
	"context"
	"crypto/rand"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/tools/boxes"
	"komainu/tools/boxes/life"
	"komainu/tools/boxes/scene"
)

// TestBootedDamage: what one box must survive, the gentle first: an agent that
// hangs, a supervisor that is killed, a kernel that panics, a data partition that
// is full, then one that is damaged.
func TestBootedDamage(t *testing.T) {
	ctx := machines(t)
	from, err := scene.Installed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s, err := scene.New(ctx, t.Name(), from, boxes.Options{Watchdog: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	file, err := s.File("system")
	if err != nil {
		t.Fatal(err)
	}
	start(ctx, t, s)

	t.Run("agent hangs", func(t *testing.T) {
		// An agent that PID 1 has never heard is taken for one that starts; it asks
		// every few seconds.
		for first := ask(ctx, t, s).UptimeS; ask(ctx, t, s).UptimeS < first+15; {
			if ctx.Err() != nil {
				t.Fatal(ctx.Err())
			}
		}
		old := process(ctx, t, s, "agent")
		began := time.Now()
		shell(ctx, t, s, "kill -STOP "+old)
		for now := old; now == old || now == ""; {
			if time.Since(began) > 3*time.Minute {
				t.Fatal("the agent that hangs stays: ", shell(ctx, t, s, "dmesg | tail -n 12; cat /proc/"+old+"/status | head -n 5; tail -n 15 /data/state/log/agent.log"))
			}
			now = process(ctx, t, s, "agent")
		}
		took := time.Since(began)
		if _, _, err := life.Healthz(ctx, s); err != nil {
			t.Fatal(err)
		}
		t.Logf("another agent after %v", took)
		out := shell(ctx, t, s, "dmesg | grep agent | tail -n 5")
		t.Log(out)
		if !strings.Contains(out, "vigil-agent-hung") {
			t.Error("it isn't recorded")
		}
	})

	t.Run("supervisor killed", func(t *testing.T) {
		old := process(ctx, t, s, "supervise")
		conn, err := s.Connect(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		shell(ctx, t, s, "kill -KILL "+old)
		for now := old; now == old || now == ""; {
			if ctx.Err() != nil {
				t.Fatal("no other supervisor comes")
			}
			now = process(ctx, t, s, "supervise")
		}
		if _, err := conn.Exec(ctx, "insert into entry values (10)"); err != nil {
			t.Error("the database's session didn't survive the supervisor:", err)
		}
		// Its socket comes a moment after its process.
		for out := ""; !strings.Contains(out, "accepted; running"); {
			if out, err = s.Console.Do(ctx, "show box"); err != nil {
				t.Fatal(err)
			}
		}
	})

	t.Run("panic", func(t *testing.T) {
		if err := s.Shell(ctx); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := s.Console.Send("echo c > /proc/sysrq-trigger"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Console.Expect(ctx, life.Login); err != nil {
			t.Fatal(err)
		}
		t.Logf("login again after %v", time.Since(began))
		if err := s.Login(ctx); err != nil {
			t.Fatal(err)
		}
		if b := ask(ctx, t, s); b.Last.Kind != "panic" || !strings.Contains(b.Last.Detail, "sysrq triggered crash") {
			t.Errorf("the run before: %+v", b.Last)
		}
	})
	off(ctx, t, s)

	t.Run("data full", func(t *testing.T) {
		if err := life.Fill(file); err != nil {
			t.Fatal(err)
		}
		start(ctx, t, s)
		if b := ask(ctx, t, s); !slices.Contains(codes(b), "boot-data-full") {
			t.Errorf("data %s, faults %+v", b.Data, b.Faults)
		}
		served, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if _, _, err := life.Healthz(served, s); err != nil {
			t.Error(err)
		}
		shell(ctx, t, s, "rm /data/filler")
		off(ctx, t, s)
	})

	t.Run("data damaged", func(t *testing.T) {
		// The superblock with its descriptors, and the first tables behind them.
		junk := make([]byte, 64<<10)
		_, _ = rand.Read(junk) // never fails
		if err := life.Overwrite(file, junk, 0, 1<<20); err != nil {
			t.Fatal(err)
		}
		took, err := s.PowerOn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		match := login(ctx, t, s)
		b := ask(ctx, t, s)
		t.Logf("login after %v (%s): data %s, faults %+v", took, match, b.Data, b.Faults)
		if f := codes(b); b.Data != "repaired" && !slices.Contains(f, "boot-data-damaged") && !slices.Contains(f, "boot-data-foreign") {
			t.Errorf("data %s, faults %q", b.Data, f)
		}
	})
}

func start(ctx context.Context, t *testing.T, s *scene.Scene) {
	t.Helper()
	if _, err := s.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Login(ctx); err != nil {
		t.Fatal(err)
	}
}

func off(ctx context.Context, t *testing.T, s *scene.Scene) {
	t.Helper()
	if err := s.Console.Send("power off"); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(ctx); err != nil {
		t.Fatal(err)
	}
}

// login logs in, or makes the administrator anew where the accounts are lost.
func login(ctx context.Context, t *testing.T, s *scene.Scene) string {
	t.Helper()
	prompt := s.Console.Prompt
	for _, x := range []struct {
		send string
		then *regexp.Regexp
	}{{"admin", regexp.MustCompile(`(?i)password: \z`)}, {scene.Password, regexp.MustCompile(`again: \z|(?m)^\S+> \z`)}} {
		if err := s.Console.Send(x.send); err != nil {
			t.Fatal(err)
		}
		match, err := s.Console.Expect(ctx, x.then)
		if err != nil {
			t.Fatal(err)
		}
		if match[0] == "again: " {
			if err := s.Console.Send(scene.Password); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Console.Expect(ctx, prompt); err != nil {
				t.Fatal(err)
			}
			return "a new administrator"
		}
	}
	return "the administrator of before"
}

func ask(ctx context.Context, t *testing.T, s *scene.Scene) control.Box {
	t.Helper()
	b, err := life.Ask(ctx, s.Console)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// shell runs one command in the emergency shell.
func shell(ctx context.Context, t *testing.T, s *scene.Scene, command string) string {
	t.Helper()
	if err := s.Shell(ctx); err != nil {
		t.Fatal(err)
	}
	out, err := s.Console.Do(ctx, command)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	return out
}

// process is the number of the process of an applet of ours; "": none.
func process(ctx context.Context, t *testing.T, s *scene.Scene, applet string) string {
	t.Helper()
	// The brackets keep grep from finding itself; a point is the zero between two arguments.
	out := shell(ctx, t, s, "grep -l '[k]omainu."+applet+"' /proc/[0-9]*/cmdline")
	m := regexp.MustCompile(`(?m)^/proc/(\d+)/cmdline`).FindStringSubmatch(out)
	if m == nil {
		return ""
	}
	return m[1]
}
