package qos_test

import (
	"strings"
	"testing"
	"time"

	"komainu/netstack/qos"
)

const holidays = "国民の祝日・休日月日,国民の祝日・休日名称\r\n2026/11/3,文化の日\r\n2026/11/23,勤労感謝の日\r\n\n# own\n20261229 年末\n"

func calendar(t *testing.T) qos.Calendar {
	t.Helper()
	days, err := qos.ParseHolidays(holidays)
	if err != nil || len(days) != 3 || days["2026-11-23"] != "勤労感謝の日" {
		t.Fatal(days, err)
	}
	return qos.NewCalendar(time.FixedZone("JST", 9*3600), days)
}

func TestSpans(t *testing.T) {
	c := calendar(t)
	for _, x := range []struct {
		span, at string // of Japan
		want     bool
	}{
		{"mon-fri 08:30-17:15", "2026-11-24 08:30", true},
		{"mon-fri 08:30-17:15", "2026-11-24 17:15", false},
		{"mon-fri 08:30-17:15", "2026-11-23 12:00", false}, // a Monday, and a holiday
		{"mon-fri,holiday 08:30-17:15", "2026-11-23 12:00", true},
		{"mon-fri 08:30-17:15", "2026-11-22 12:00", false},
		{"sat,sun,holiday 00:00-24:00", "2026-11-23 23:59", true},
		{"sat,sun,holiday 00:00-24:00", "2026-11-24 00:00", false},
		{"mon-fri 19:00-07:00", "2026-11-25 06:59", true},
		{"mon-fri 19:00-07:00", "2026-11-24 06:59", false}, // began on the holiday
		{"holiday 19:00-07:00", "2026-11-24 06:59", true},
		{"mon-fri 19:00-07:00", "2026-11-28 06:59", true}, // Friday's
		{"mon-fri 19:00-07:00", "2026-11-28 19:00", false},
		{"fri-mon 10:00-11:00", "2026-11-29 10:00", true},
		{"daily 01:00-05:00", "2026-11-23 04:00", true},
	} {
		s, err := qos.ParseSpan(x.span)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.ParseInLocation("2006-01-02 15:04", x.at, c.Zone)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Holds(c.At(at.UTC())); got != x.want {
			t.Errorf("%s at %s: %v", x.span, x.at, got)
		}
	}
}

func TestBadSpansAreRefused(t *testing.T) {
	for _, s := range []string{"", "mon", "mon 9-17", "mon 09:00", "moo 09:00-17:00", "mon-xxx 09:00-17:00", "mon 09:00-09:00", "mon 24:00-25:00", "mon 09:60-10:00", "mon 24:00-01:00", "mon -1:00-02:00"} {
		if _, err := qos.ParseSpan(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestBadHolidaysAreRefused(t *testing.T) {
	_, err := qos.ParseHolidays("heading\n2026-01-01,元日\n2026-02-30,never\n")
	if err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Error(err)
	}
}
