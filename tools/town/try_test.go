package town

import (
	"context"
	"os"
	"testing"
	"time"

	"komainu/tools/lab"
)

func TestHostTry(t *testing.T) {
	name := os.Getenv("TRY")
	if name == "" {
		t.Skip()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	start := time.Now()
	w, err := Build(ctx, Options{Name: "try", Log: os.Stderr, Keep: true, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	t.Logf("built in %v at %s", time.Since(start), w.Dir)
	ev, stop := w.Events.Watch()
	defer stop()
	go func() {
		for e := range ev {
			t.Logf("%s %-4s %-20s %s %v %d", e.At().Format("05.000"), e.Host, e.Subject, e.Code, e.Args, e.Term)
		}
	}()
	sc, err := Scenario(w, name)
	if err != nil {
		t.Fatal(err)
	}
	err = sc.Play(ctx, func(s lab.Step, done bool, err error) {
		t.Logf("%s STEP %s done=%v %v", time.Now().Format("05.000"), s.Text, done, err)
	})
	if err != nil {
		t.Error(err)
	}
	w.StopClerks("")
	tally, err := w.Tally(ctx)
	t.Logf("%+v %v", tally, err)
}
