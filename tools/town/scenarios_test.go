package town

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"komainu/tools/lab"
)

// names are the shipped scenarios.
func names(t *testing.T) []string {
	entries, err := fs.ReadDir(lab.Scenarios, "scenarios")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, strings.TrimSuffix(e.Name(), ".txt"))
	}
	return out
}

func TestScenariosParse(t *testing.T) {
	for _, name := range names(t) {
		if _, err := Scenario(nil, name); err != nil {
			t.Error(err)
		}
	}
}

// TestHostScenarios plays every shipped scenario on a town of its own, two at
// a time.
func TestHostScenarios(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	for _, name := range names(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, name, Settings{})
		})
	}
}

// play runs one scenario and shows, when it fails, everything that the boxes
// wrote down.
func play(t *testing.T, name string, s Settings) {
	src, err := fs.ReadFile(lab.Scenarios, "scenarios/"+name+".txt")
	if err != nil {
		t.Fatal(err)
	}
	playText(t, name, string(src), s)
}

func playText(t *testing.T, name, src string, s Settings) {
	playOn(t, src, Options{Name: name, Settings: s})
}

func playOn(t *testing.T, src string, o Options) {
	ctx, cancel := context.WithTimeout(t.Context(), 35*time.Minute)
	defer cancel()
	o.Seed, o.Keep = 1, os.Getenv("KEEP") != ""
	w, err := Build(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Errorf("tear the town down: %v", err)
		}
	}()
	sc, err := lab.ParseScenario("scenarios/"+o.Name+".txt", src, w.verbs())
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	err = sc.Play(ctx, func(s lab.Step, done bool, err error) {
		if done {
			steps = append(steps, fmt.Sprintf("%s  %-5s STEP %s", time.Now().Format("15:04:05.000"), "", s.Text))
		}
	})
	if err != nil {
		t.Errorf("%v", err)
	}
	if t.Failed() || testing.Verbose() && os.Getenv("KEEP") != "" {
		t.Log(w.Dir + "\n" + strings.Join(steps, "\n") + "\n" + timeline(w))
	}
}

// timeline is the journal of all boxes, alarms left out.
func timeline(w *World) string {
	var b strings.Builder
	for _, e := range w.Events.All() {
		if !strings.HasPrefix(e.Code, "alarm-") {
			fmt.Fprintf(&b, "%s  %-5s %-20s %s %.200v\n", e.At().Format("15:04:05.000"), e.Host, e.Subject, e.Code, e.Args)
		}
	}
	return b.String()
}
