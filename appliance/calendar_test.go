package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"komainu/appliance/config"
)

// TestHolidays: a file that can't be read is an error that names its line, and
// at a start nothing but a reason beside a calendar without holidays.
func TestHolidays(t *testing.T) {
	d := folders{state: t.TempDir()}
	text, err := os.ReadFile("config/testdata/dc-edge.toml")
	if err != nil {
		t.Fatal(err)
	}
	f, problems := config.Parse("x", []byte(strings.Replace(string(text), "[site]", "[site]\ntimezone = \"Asia/Tokyo\"\nholidays = \"holidays.csv\"", 1)))
	if f == nil {
		t.Fatal(problems)
	}
	monday := time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		text, want string
		holiday    bool
	}{
		{"", "no such file", false},
		{"date,name\n2026-11-23,勤労感謝の日\n2026-02-30,never\n", "line 3", false},
		{"date,name\n2026-11-23,勤労感謝の日\n", "", true},
	} {
		if c.text != "" {
			if err := os.WriteFile(filepath.Join(d.state, "holidays.csv"), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w := wiring{folders: d, file: f, secrets: d.secrets()}
		_, err := w.calendar(f) // what a reload is refused by
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.text, err)
		}
		box, _ := wireFile(d, f) // its secrets aren't there
		g := box.Spec.Ground
		m := g.Calendar.At(monday)
		if !strings.Contains(g.NoHolidays, c.want) || (g.NoHolidays == "") != (c.want == "") || m.Holiday != c.holiday || m.Minute != 0 {
			t.Errorf("%q: %q, %+v", c.text, g.NoHolidays, m)
		}
	}
}
