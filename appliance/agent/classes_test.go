package agent

import (
	"slices"
	"testing"
	"time"

	"komainu/netstack/qos"
	"komainu/ntp/instant"
)

// sharingWalk is an edge whose one line is shared by the hour.
type sharingWalk struct {
	a       *Agent
	now     instant.Instant
	wall    time.Time
	asked   []uint64 // bit/s of bulk in every SetQueues since the last look
	outcome Outcome
	changes int // that the kernel needed
	notes   []string
	alarms  []string
}

// hours are a line's: bulk has 384 kbit/s, from 19 to 7 o'clock 8 Mbit/s.
func hours(t *testing.T) Ground {
	night, err := qos.ParseSpan("daily 19:00-07:00")
	if err != nil {
		t.Fatal(err)
	}
	return Ground{Sharing: qos.Plan{Classes: []qos.Class{{Name: "bulk", Number: 5, Match: []qos.Match{{Proto: "tcp", Port: 445}}}, {Name: "business", Number: qos.MaxClasses}},
		Lines: []qos.Line{{Name: "main", Link: "main", Kind: qos.HTB, Rate: 10e6, Classes: []qos.Rate{{Class: "bulk", Max: 384e3}, {Class: "bulk", Max: 8e6, When: night}}}}}}
}

func newSharingWalk(g Ground) *sharingWalk {
	w := &sharingWalk{now: instant.Instant(100 * time.Second), wall: time.Date(2026, 11, 23, 18, 58, 30, 0, time.UTC)}
	w.a = New(Spec{Site: "edge", Role: DCEdge, Ground: g})
	w.step(Started{Boot: 1, Wall: w.wall.UnixNano()})
	return w
}

func (w *sharingWalk) step(ev Event) {
	var done []Done
	for _, x := range w.a.Step(w.now, ev) {
		d := Done{ID: x.ID}
		switch do := x.Do.(type) {
		case SetQueues:
			bits := uint64(0)
			for _, t := range do.Trees {
				for _, n := range t.Nodes {
					if n.Class == "bulk" {
						bits = n.Ceil
					}
				}
			}
			w.asked = append(w.asked, bits)
			d.Outcome, d.Value = w.outcome, w.changes
			if w.outcome != OK {
				d.Code, d.Args = "queues-refused", []string{"busy"}
			}
			w.changes = 0
		case SetNetwork:
			d.Value = Applied{}
		case Note:
			w.notes = append(w.notes, do.Code)
		case Alarm:
			if do.Raised {
				w.alarms = append(w.alarms, do.ID)
			}
		}
		if x.ID != 0 {
			done = append(done, d)
		}
	}
	for _, d := range done {
		w.step(d)
	}
}

// TestHolidaysAreMissing: people are told, the hours are kept without.
func TestHolidaysAreMissing(t *testing.T) {
	g := hours(t)
	g.NoHolidays = "holidays: line 3: no date"
	w := newSharingWalk(g)
	w.run(5 * time.Second)
	if len(w.asked) == 0 || !slices.Contains(w.alarms, "holidays-missing") {
		t.Error(w.asked, w.alarms)
	}
}

func (w *sharingWalk) run(d time.Duration) {
	for end := w.now.Add(d); w.now < end; {
		w.now, w.wall = w.now.Add(100*time.Millisecond), w.wall.Add(100*time.Millisecond)
		w.step(Tick{Wall: w.wall.UnixNano()})
	}
}

// expect demands what was asked for since the last look.
func (w *sharingWalk) expect(t *testing.T, what string, want ...uint64) {
	t.Helper()
	if got := slices.Compact(w.asked); !slices.Equal(got, want) {
		t.Errorf("%s: asked for %d, want %d", what, w.asked, want)
	}
	w.asked = nil
}

func TestSharingFollowsTheHours(t *testing.T) {
	w := newSharingWalk(hours(t))
	w.run(time.Second)
	w.expect(t, "at the start", 384e3)
	w.run(88 * time.Second)
	w.expect(t, "before seven", 384e3) // compared now and then
	w.run(2 * time.Second)
	w.expect(t, "at seven", 8e6)
	w.wall = w.wall.Add(-time.Hour)
	w.run(time.Second)
	w.expect(t, "the clock is put back", 384e3)
	g := hours(t)
	g.Sharing.Lines[0].Classes = g.Sharing.Lines[0].Classes[:1]
	g.Sharing.Lines[0].Classes[0].Max = 1e6
	w.step(Reload{Token: 1, Ground: g})
	w.run(time.Second)
	w.expect(t, "another configuration", 1e6)
	if slices.Contains(w.notes, "queues-corrected") {
		t.Error("what was ordered counts as a correction")
	}
	w.step(Reload{Token: 2})
	w.run(time.Minute)
	w.expect(t, "nothing is shared any more", 0)
	w.run(time.Minute)
	w.expect(t, "and that is told once")
}

func TestSharingIsPutRight(t *testing.T) {
	w := newSharingWalk(hours(t))
	w.run(time.Second)
	w.expect(t, "at the start", 384e3)
	w.changes = 3
	w.step(Drifted{})
	w.run(1500 * time.Millisecond)
	w.expect(t, "changed by hand", 384e3)
	if !slices.Contains(w.notes, "queues-corrected") {
		t.Error(w.notes)
	}
	w.outcome = Failed
	w.step(Drifted{})
	w.run(10 * time.Second)
	if len(w.asked) < 3 || len(w.asked) > 5 {
		t.Errorf("tried %d times", len(w.asked))
	}
	if v := w.a.View().Lines; v.Code != "queues-refused" || len(v.Trees) != 1 || !slices.Contains(w.alarms, "queues-failed") {
		t.Errorf("%+v, alarms %v", v, w.alarms)
	}
	w.outcome, w.asked = OK, nil
	w.run(20 * time.Second)
	if v := w.a.View(); v.Lines.Code != "" || len(v.Alarms) != 0 {
		t.Errorf("%+v", v)
	}
}
