package main

import (
	"fmt"
	"time"

	"komainu/appliance/agent"
	"komainu/appliance/config"
	"komainu/netstack/qos"
)

// hours gives a network its calendar. One that can't be read keeps nobody from
// working: there is an alarm, and a reload is refused.
func (w *wiring) hours(g *agent.Ground, f *config.File) {
	var err error
	if g.Calendar, err = w.calendar(f); err != nil {
		g.NoHolidays = err.Error()
	}
}

// calendar is by which the hours of [[qos]] are judged. What can't be read
// leaves a calendar without holidays, or in UTC, beside the error.
func (w *wiring) calendar(f *config.File) (qos.Calendar, error) {
	zone, err := time.LoadLocation(f.Site.Timezone)
	if err != nil {
		return qos.Calendar{}, fmt.Errorf("site: timezone %s: %w", f.Site.Timezone, err)
	}
	if f.Site.Holidays == "" {
		return qos.NewCalendar(zone, nil), nil
	}
	text, err := w.read(f.Site.Holidays)
	if err != nil {
		return qos.NewCalendar(zone, nil), fmt.Errorf("site: holidays: %w", err)
	}
	days, err := qos.ParseHolidays(string(text))
	if err != nil {
		return qos.NewCalendar(zone, nil), fmt.Errorf("site: holidays %s: %w", f.Site.Holidays, err)
	}
	return qos.NewCalendar(zone, days), nil
}
