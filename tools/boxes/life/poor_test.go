package life_test

import (
	"context"
	"crypto/rand"
	"regexp"
	"slices"
	"testing"
	"time"

	"komainu/tools/boxes"
	"komainu/tools/boxes/life"
	"komainu/tools/boxes/scene"
)

// TestBootedPoor: little memory, a clock of 2001, no network card, two serial
// lines, and something else where the data belongs. Both consoles serve, the
// faults are told, and nothing is overwritten.
func TestBootedPoor(t *testing.T) {
	ctx := machines(t)
	image, err := boxes.BuildImage(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s, err := scene.New(ctx, t.Name(), image, boxes.Options{
		Memory: 512, SecondSerial: true, NICs: []boxes.NIC{}, Clock: time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC),
	})
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
	foreign := make([]byte, 1<<20)
	_, _ = rand.Read(foreign) // never fails
	if err := life.Overwrite(file, foreign, 0, 64<<20); err != nil {
		t.Fatal(err)
	}
	before, err := life.Sum(file, 256<<20)
	if err != nil {
		t.Fatal(err)
	}
	took, err := s.PowerOn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.FirstLogin(ctx); err != nil {
		t.Fatal(err)
	}
	b, err := life.Ask(ctx, s.Console)
	t.Logf("login after %v: %+v", took, b)
	if err != nil {
		t.Fatal(err)
	}
	if f := codes(b); b.Data != "none" || !slices.Contains(f, "boot-data-foreign") || !slices.Contains(f, "boot-clock-behind") {
		t.Errorf("data %s, faults %q", b.Data, f)
	}
	if len(b.Ports) != 0 || b.Memory > 512<<20 || time.Since(b.Booted) > 10000*time.Hour {
		t.Errorf("ports %+v, memory %d, started %v", b.Ports, b.Memory, b.Booted)
	}
	if err := loginAt(ctx, s.Second); err != nil {
		t.Fatal(err)
	}
	out, err := s.Second.Do(ctx, "show box")
	if err != nil {
		t.Fatal(err)
	}
	t.Log("on the second line:", out)
	if err := s.Second.Send("power off"); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if after, err := life.Sum(file, 256<<20); err != nil || after != before {
		t.Errorf("something else's data was written over: %v", err)
	}
}

// loginAt logs in on another line, in English.
func loginAt(ctx context.Context, c *boxes.Console) error {
	if _, err := c.Expect(ctx, life.Login); err != nil {
		return err
	}
	for _, x := range []struct {
		send string
		then *regexp.Regexp
	}{{"admin", regexp.MustCompile(`(?i)password: \z`)}, {scene.Password, c.Prompt}, {"console language en", c.Prompt}} {
		if err := c.Send(x.send); err != nil {
			return err
		}
		if _, err := c.Expect(ctx, x.then); err != nil {
			return err
		}
	}
	return nil
}

// TestBootedHeadless: a box without a serial line answers on the network, and
// goes off when somebody presses its button.
func TestBootedHeadless(t *testing.T) {
	ctx := machines(t)
	from, err := scene.Installed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s, err := scene.New(ctx, t.Name(), from, boxes.Options{NoSerial: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	began := time.Now()
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	code, body, err := life.Healthz(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("health after %v: %d %s", time.Since(began), code, body)
	conn, err := s.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, "insert into entry values (1)"); err != nil {
		t.Error(err)
	}
	began = time.Now()
	if err := s.PowerButton(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("off %v after the button", time.Since(began))
}
