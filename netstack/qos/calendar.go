package qos

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Moment is a time of the week, as the town's clocks show it.
type Moment struct {
	Day     time.Weekday
	Minute  int  // of the day, 0 to 1439
	Holiday bool // a public holiday
	Eve     bool // the day before was one
}

// Calendar knows the holidays. Its zero value knows none.
type Calendar struct {
	Zone *time.Location // nil: UTC
	days map[string]string
}

// day is how the calendar writes a date.
const day = "2006-01-02"

// ParseHolidays reads a list of holidays: a date and its name in each line,
// separated by a comma or spaces; the Cabinet Office's table 国民の祝日 in UTF-8
// is one. Dates are 2026-01-01, 2026/1/1 or 20260101. The first line may be a
// heading; empty lines and those that begin with # are left out. The error names
// the line.
func ParseHolidays(text string) (map[string]string, error) {
	out := map[string]string{}
	for i, line := range strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.IndexAny(line, ", \t")
		date, name := line, ""
		if at >= 0 {
			date, name = line[:at], strings.Trim(line[at+1:], ", \t")
		}
		var when time.Time
		var err error
		for _, form := range []string{day, "2006/1/2", "20060102"} {
			if when, err = time.Parse(form, date); err == nil {
				break
			}
		}
		if err != nil {
			if i == 0 {
				continue
			}
			return nil, fmt.Errorf("line %d: %q is no date like 2026-01-01", i+1, date)
		}
		out[when.Format(day)] = name
	}
	return out, nil
}

// NewCalendar makes a calendar of what ParseHolidays returned.
func NewCalendar(zone *time.Location, holidays map[string]string) Calendar {
	return Calendar{Zone: zone, days: holidays}
}

// At is the moment of an instant of the wall clock.
func (c Calendar) At(t time.Time) Moment {
	if c.Zone != nil {
		t = t.In(c.Zone)
	} else {
		t = t.UTC()
	}
	_, holiday := c.days[t.Format(day)]
	_, eve := c.days[t.AddDate(0, 0, -1).Format(day)]
	return Moment{Day: t.Weekday(), Minute: t.Hour()*60 + t.Minute(), Holiday: holiday, Eve: eve}
}

// Next is when the minute of the calendar changes next, when spans may begin or
// end.
func (c Calendar) Next(t time.Time) time.Time { return t.Truncate(time.Minute).Add(time.Minute) }

// Span is some hours of some days. One over midnight belongs to the day on which
// it begins.
type Span struct {
	days     uint8 // bit n: time.Weekday n
	holiday  bool  // on holidays, whatever day they are
	from, to int   // minutes of the day; to < from: over midnight
	given    bool
}

// Moments are as many of all moments as spans can be told apart by: where one of
// them begins or ends, on every day, on holidays, and after holidays.
func Moments(spans []Span) []Moment {
	minutes := []int{0}
	for _, s := range spans {
		minutes = append(minutes, s.from%minutesOfDay, s.to%minutesOfDay)
	}
	slices.Sort(minutes)
	var all []Moment
	for day := range 7 {
		for _, m := range slices.Compact(minutes) {
			for _, holidays := range [][2]bool{{}, {true, false}, {false, true}, {true, true}} {
				all = append(all, Moment{Day: time.Weekday(day), Minute: m, Holiday: holidays[0], Eve: holidays[1]})
			}
		}
	}
	return all
}

// String is like "mon 19:00" or, on a holiday, "holiday 19:00".
func (m Moment) String() string {
	name := weekdays[m.Day]
	if m.Holiday {
		name = "holiday"
	}
	return fmt.Sprintf("%s %02d:%02d", name, m.Minute/60, m.Minute%60)
}

// Always tells whether no span was given.
func (s Span) Always() bool { return !s.given }

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

const minutesOfDay = 24 * 60

// ParseSpan reads "mon-fri 19:00-07:00", "sat,sun,holiday 00:00-24:00" or
// "daily 01:00-05:00". Days that are named leave holidays out unless "holiday"
// stands beside them; "daily" is every day.
func ParseSpan(s string) (Span, error) {
	days, hours, ok := strings.Cut(strings.TrimSpace(s), " ")
	if !ok {
		return Span{}, fmt.Errorf("%q: want days and hours, like \"mon-fri 19:00-07:00\"", s)
	}
	p := Span{given: true}
	for _, d := range strings.Split(strings.ToLower(days), ",") {
		first, last, ranged := strings.Cut(d, "-")
		switch {
		case d == "daily":
			p.days, p.holiday = 0x7f, true
			continue
		case d == "holiday":
			p.holiday = true
			continue
		case !ranged:
			last = first
		}
		from, to := weekday(first), weekday(last)
		if from < 0 || to < 0 {
			return Span{}, fmt.Errorf("%q: %q is no day: mon, tue, ..., holiday, daily", s, d)
		}
		for n := from; ; n = (n + 1) % 7 {
			p.days |= 1 << n
			if n == to {
				break
			}
		}
	}
	from, to, ok := strings.Cut(strings.TrimSpace(hours), "-")
	var err1, err2 error
	p.from, err1 = minute(from)
	p.to, err2 = minute(to)
	if !ok || err1 != nil || err2 != nil || p.from == minutesOfDay || p.from == p.to {
		return Span{}, fmt.Errorf("%q: %q are no hours like 19:00-07:00", s, hours)
	}
	return p, nil
}

func weekday(s string) int {
	for n, d := range weekdays {
		if s == d {
			return n
		}
	}
	return -1
}

func minute(s string) (int, error) {
	h, m, ok := strings.Cut(s, ":")
	hour, err1 := strconv.Atoi(h)
	min, err2 := strconv.Atoi(m)
	if !ok || err1 != nil || err2 != nil || len(m) != 2 || hour < 0 || min < 0 || min > 59 || hour*60+min > minutesOfDay {
		return 0, fmt.Errorf("%q is no time of the day", s)
	}
	return hour*60 + min, nil
}

// Holds tells whether a moment is inside.
func (s Span) Holds(m Moment) bool {
	if s.from < s.to {
		return s.on(m.Day, m.Holiday) && m.Minute >= s.from && m.Minute < s.to
	}
	if m.Minute >= s.from {
		return s.on(m.Day, m.Holiday)
	}
	return m.Minute < s.to && s.on((m.Day+6)%7, m.Eve)
}

func (s Span) on(d time.Weekday, holiday bool) bool {
	if holiday {
		return s.holiday
	}
	return s.days&(1<<d) != 0
}
