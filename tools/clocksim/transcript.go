package main

import (
	"fmt"
	"time"

	"komainu/ntp/timer"
)

// say writes a line of the transcript: true time, true error of the wall
// clock (positive: it is ahead), and what happens.
func (w *world) say(who, format string, args ...any) {
	if w.log == nil {
		return
	}
	t := time.Duration(w.clock.now)
	stamp := fmt.Sprintf("%dd%02d:%02d:%06.3f", t/(24*time.Hour), int(t.Hours())%24, int(t.Minutes())%60, (t % time.Minute).Seconds())
	fmt.Fprintf(w.log, "%s %13s  %s %s\n", stamp, micro(w.err()), who, fmt.Sprintf(format, args...))
}

// micro is ns as microseconds, for columns.
func micro(ns float64) string { return fmt.Sprintf("%+.1fus", ns/1e3) }

func (w *world) logEvent(ev timer.Event) {
	if w.log == nil {
		return
	}
	switch e := ev.(type) {
	case timer.Tick:
		if w.chat {
			w.say("event ", "Tick")
		}
	case timer.Answer:
		r := e.Reply
		offset := (float64(r.ServerReceived-r.Sent) + float64(r.ServerSent-r.Received)) / 2
		delay := float64(r.Received-r.Sent) - float64(r.ServerSent-r.ServerReceived)
		w.say("event ", "Answer source %d query %d: measured %s, true %s, delay %.1fus, stratum %d leap %d %s",
			e.Source, e.Query, micro(offset), micro(-w.err()), delay/1e3, r.Stratum, r.Leap, r.Kiss)
	case timer.LeapTable:
		w.say("event ", "LeapTable, %d entries", len(e.Table.Entries))
	case timer.Started:
		w.say("event ", "Started: drift %+.4f +- %.4f ppm, kernel %+.4f ppm", e.Drift.Frequency, e.Drift.Error, e.Kernel)
	default:
		w.say("event ", "%T %+v", ev, ev)
	}
}

func (w *world) logAction(a timer.Action) {
	if w.log == nil {
		return
	}
	switch a := a.(type) {
	case timer.Wake:
		if w.chat {
			w.say("action", "Wake in %v", a.At.Sub(w.reading().Boot))
		}
	case timer.Query:
		if w.chat {
			w.say("action", "Query source %d query %d at %v, timeout %v", a.ID, a.Query, a.Addr, a.Timeout)
		}
	case timer.SetFrequency:
		y := w.clock.crystal.ppm
		ideal := -y / (1 + y*1e-6)
		w.say("action", "SetFrequency %+.5f ppm, perfect %+.5f, off %+.5f", a.PPM, ideal, a.PPM-ideal)
	case timer.Slew:
		w.say("action", "Slew %s constant %d, perfect %s", micro(float64(a.Offset)), a.Constant, micro(-w.err()))
	case timer.StepClock:
		w.say("action", "StepClock %s, perfect %s", micro(float64(a.By)), micro(-w.err()))
	case timer.Save:
		w.say("action", "Save %+.5f +- %.5f ppm", a.Drift.Frequency, a.Drift.Error)
	case timer.Publish:
		s := a.State
		d := float64(s.RootDelay)/2 + float64(s.RootDispersion(w.wallNow()))
		covers := "covers the error"
		if d < max(w.err(), -w.err()) {
			covers = "DOES NOT COVER the error"
		}
		if s.Leap == 3 || s.Stratum > 15 {
			covers = "not synchronised"
		}
		w.say("action", "Publish leap %d stratum %d reference %08x, root distance %.1fus growing %.4f ppm: %s", s.Leap, s.Stratum, s.RefID, d/1e3, s.Growth*1e6, covers)
	case timer.SetSync:
		w.say("action", "SetSync %v, bound %v", a.Synced, a.Bound)
	default:
		w.say("action", "%T %+v", a, a)
	}
}
