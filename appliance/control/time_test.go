package control

import (
	"strings"
	"testing"
)

func TestExplain(t *testing.T) {
	source := func(name, state string) TimeSource { return TimeSource{Name: name, State: state} }
	kiss := source("k", "unusable")
	kiss.Reason = Reason{"ntp-kiss", []string{"DENY"}}
	for _, c := range []struct {
		name string
		st   TimeStatus
		want string // codes with their arguments; behind "→" the advice
	}{
		{"all is well, whatever the sources", TimeStatus{State: "synchronised", Sources: []TimeSource{source("a", "silent")}}, "→"},
		{"nothing configured", TimeStatus{State: "orphan"}, "time-why-no-upstream →"},
		{"first seconds", TimeStatus{State: "starting", SinceS: 3, Sources: []TimeSource{source("a", "usable")}, MinSources: 2}, "time-why-few 1 2 → advice-time-start"},
		{"a minute later", TimeStatus{State: "starting", SinceS: 70, Sources: []TimeSource{source("a", "usable")}, MinSources: 2}, "time-why-few 1 2 → advice-time-few"},
		{"line cut", TimeStatus{State: "holdover", Sources: []TimeSource{source("a", "silent"), source("b", "silent"), source("c", "unresolved")}},
			"time-why-silent a b; time-why-unresolved c → advice-time-silent a"},
		{"a pool and many more", TimeStatus{State: "holdover", Sources: []TimeSource{source("p", "silent"), source("p", "silent"), source("b", "silent"), source("c", "silent"), source("d", "silent"), source("e", "silent")}},
			"time-why-silent p b c d ... (5) → advice-time-silent p"},
		{"no majority", TimeStatus{State: "unsynchronised", Sources: []TimeSource{source("a", "falseticker"), source("b", "falseticker"), kiss, kiss, kiss}},
			"time-why-no-majority a b; time-why-unusable k ntp-kiss DENY; time-why-unusable k ntp-kiss DENY → advice-time-majority a"},
		{"one lies, too few left", TimeStatus{State: "unsynchronised", MinSources: 2, Sources: []TimeSource{source("a", "usable"), source("b", "falseticker"), source("c", "distant")}},
			"time-why-falseticker b; time-why-distant c; time-why-few 1 2 → advice-time-few"},
		{"panic", TimeStatus{State: "panic", OffsetS: -61.25, Sources: []TimeSource{source("a", "followed")}}, "time-why-panic -61.250 → advice-time-panic"},
		{"doubt", TimeStatus{State: "holdover", Sources: []TimeSource{source("a", "usable")}, Alarms: []Alarm{{ID: "time-doubt"}}}, "time-doubt → advice-time-panic"},
	} {
		c.st.Explain()
		var all []string
		for _, r := range c.st.Reasons {
			all = append(all, strings.Join(append([]string{r.Code}, r.Args...), " "))
		}
		got := strings.TrimSpace(strings.TrimSpace(strings.Join(all, "; ")+" → "+c.st.Advice.Code) + " " + strings.Join(c.st.Advice.Args, " "))
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestClock(t *testing.T) {
	if c := (*TimeStatus)(nil).Clock(); c.Reachable || c.BoundS >= 0 {
		t.Errorf("%+v", c)
	}
	st := TimeStatus{State: "orphan", Stratum: 12, RefID: "10.1.0.5", Reasons: []Reason{{Code: "x"}}}
	if c := st.Clock(); !c.Reachable || c.Reference != "10.1.0.5" || c.Stratum != 12 || len(c.Reasons) != 1 {
		t.Errorf("%+v", c)
	}
	st.Source = "ntp.example.jp"
	if c := st.Clock(); c.Reference != "ntp.example.jp" {
		t.Errorf("%+v", c)
	}
}

func TestRefID(t *testing.T) {
	for _, c := range []struct {
		id      uint32
		stratum uint8
		want    string
	}{
		{0, 16, ""}, {0x47505300, 1, "GPS"}, {0x52415445, 0, "RATE"}, {0x0a010005, 2, "10.1.0.5"}, {0x494e4954, 16, "INIT"}, {0x0a010005, 1, "0A010005"},
	} {
		if got := RefID(c.id, c.stratum); got != c.want {
			t.Errorf("%08X at %d: %q, want %q", c.id, c.stratum, got, c.want)
		}
	}
}
