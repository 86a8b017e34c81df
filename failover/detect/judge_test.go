package detect

import (
	"strings"
	"testing"
	"time"

	"komainu/failover/standby"
	"komainu/ntp/instant"
)

var judge = JudgeConfig{BootGrace: 2 * time.Second, HostSilent: time.Second, Settle: 1500 * time.Millisecond, LANSettle: 5 * time.Second}

// evidence builds one row's evidence from words, one minute after the start.
//
//	paths     u up, i init, d down, c down without carrier, a admin-down; named p0, p1, ...
//	service   + passes, - fails, ? still counting; named s0, ...
//	database  primary fenced standby starting stopped hung unknown silent unheard; named d0, ...
//	flags     no-contact, booting, stalled, stalled-long-ago, lan, path-just-up
func evidence(t *testing.T, paths, services, databases, flags string) Evidence {
	now := instant.Instant(time.Hour)
	e := Evidence{Now: now, Started: now.Add(-time.Minute), Contact: true}
	states := map[rune]SessionState{'u': Up, 'i': Init, 'd': Down, 'c': Down, 'a': AdminDown}
	for i, r := range paths {
		e.Paths = append(e.Paths, PathEvidence{Name: "p" + string(rune('0'+i)), State: states[r], NoCarrier: r == 'c', Since: e.Started})
	}
	counts := map[rune]ProbeCount{'+': {OKs: 20}, '-': {Fails: 3}, '?': {OKs: 19}}
	for i, r := range services {
		e.Services = append(e.Services, ServiceEvidence{Name: "s" + string(rune('0'+i)), Probes: counts[r], Fail: 3, OK: 20})
	}
	roles := map[string]standby.Role{"primary": standby.Primary, "fenced": standby.Primary, "silent": standby.Primary, "standby": standby.Standby,
		"starting": standby.Starting, "stopped": standby.Stopped, "hung": standby.Hung, "unknown": standby.Unknown, "unheard": standby.Unknown}
	for i, w := range strings.Fields(databases) {
		role, ok := roles[w]
		if !ok {
			t.Fatalf("database %q", w)
		}
		d := DatabaseEvidence{Name: "d" + string(rune('0'+i)), Heard: w != "unheard", Age: 200 * time.Millisecond,
			State: DatabaseState{Role: role, Open: w != "fenced"}}
		if w == "silent" {
			d.Age = time.Second
		}
		e.Databases = append(e.Databases, d)
	}
	for _, w := range strings.Fields(flags) {
		switch w {
		case "no-contact":
			e.Contact = false
		case "booting":
			e.Started = now.Add(-time.Second)
		case "stalled":
			e.StalledAt = now.Add(-time.Second)
		case "stalled-long-ago":
			e.StalledAt = now.Add(-2 * time.Second)
		case "lan":
			e.LANDown = true
		case "lan-back":
			e.LANBackAt = now.Add(-4 * time.Second)
		case "lan-back-long-ago":
			e.LANBackAt = now.Add(-5 * time.Second)
		case "path-just-up":
			for i := range e.Paths {
				e.Paths[i].Since = now.Add(-500 * time.Millisecond)
			}
		default:
			t.Fatalf("flag %q", w)
		}
	}
	return e
}

func TestJudge(t *testing.T) {
	for _, c := range []struct{ paths, services, databases, flags, want string }{
		// all is well, and one of two lines lost
		{"uu", "+", "primary", "", "usable none verdict.usable"},
		{"ud", "+", "primary", "", "usable line verdict.line-lost p1"},
		{"iu", "+", "primary", "", "usable line verdict.line-lost p0"},
		{"cu", "+", "primary", "", "usable line verdict.line-lost p0"},
		{"ua", "+", "primary", "", "usable none verdict.usable"},
		{"u", "", "primary", "", "usable none verdict.usable"},
		{"u", "++", "", "", "usable none verdict.usable"},

		// every line lost; probes, databases and carrier change only the words
		{"dd", "+", "primary", "", "unusable line verdict.no-answer p0 p1"},
		{"di", "+", "primary", "", "unusable line verdict.no-answer p0 p1"},
		{"dc", "-", "silent", "", "unusable line verdict.no-answer p0 p1"},
		{"cc", "-", "silent", "", "unusable line verdict.no-carrier p0 p1"},

		// just started
		{"dd", "?", "unheard", "no-contact booting", "unknown none verdict.boot"},
		{"cc", "?", "unheard", "no-contact booting", "unknown none verdict.boot"},
		{"dd", "-", "unheard", "no-contact", "unusable line verdict.no-answer p0 p1"},
		{"dd", "", "unheard", "no-contact", "unusable line verdict.no-answer p0 p1"},
		{"dd", "?", "unheard", "no-contact", "unknown line verdict.never-heard p0 p1"},
		{"dd", "+-", "unheard", "no-contact", "unusable line verdict.no-answer p0 p1"},
		{"dd", "+", "primary", "booting", "unusable line verdict.no-answer p0 p1"},

		// lines taken down on purpose: the probes alone decide
		{"aa", "+", "silent", "", "usable none verdict.probes-only"},
		{"aa", "?", "primary", "", "unknown none verdict.probes-pending s0"},
		{"aa", "-", "primary", "", "unusable dc-edge verdict.probe-failed s0"},
		{"ad", "+", "primary", "", "usable none verdict.probes-only"},
		{"ad", "-", "primary", "", "unusable dc-edge verdict.probe-failed s0"},
		{"aa", "", "primary", "", "unknown none verdict.nothing-to-judge"},
		{"", "+", "", "", "usable none verdict.probes-only"},
		{"", "", "", "", "unknown none verdict.nothing-to-judge"},

		// the edge answers, the database doesn't
		{"uu", "+", "fenced", "", "unusable dc-service verdict.primary-fenced d0"},
		{"uu", "+", "stopped", "", "unusable dc-service verdict.primary-down d0 stopped"},
		{"uu", "+", "starting", "", "unusable dc-service verdict.primary-down d0 starting"},
		{"uu", "+", "hung", "", "unusable dc-service verdict.primary-down d0 hung"},
		{"uu", "+", "standby", "", "unusable dc-service verdict.primary-down d0 standby"},
		{"uu", "+", "silent", "", "unusable dc-service verdict.db-host-silent d0"},
		{"uu", "+", "unheard", "", "unusable dc-service verdict.db-host-silent d0"},
		{"uu", "+", "unheard", "path-just-up", "unknown none verdict.db-host-unknown d0"},
		{"uu", "+", "unknown", "", "unknown none verdict.db-host-unknown d0"},
		{"uu", "+", "unknown fenced", "", "unusable dc-service verdict.primary-fenced d1"},
		{"ud", "+", "primary stopped", "", "unusable dc-service verdict.primary-down d1 stopped"},

		// the database says yes, a service doesn't
		{"uu", "-", "primary", "", "unusable dc-service verdict.probe-failed s0"},
		{"uu", "+?", "primary", "", "unknown none verdict.probes-pending s1"},
		{"uu", "?-", "primary", "", "unusable dc-service verdict.probe-failed s1"},
		{"uu", "-", "unknown", "", "unusable dc-service verdict.probe-failed s0"},
		{"uu", "-", "", "", "unusable dc-service verdict.probe-failed s0"},

		// our own fault never makes the data centre unusable
		{"dd", "-", "silent", "stalled", "unknown own-box verdict.own-box-stalled"},
		{"dd", "-", "silent", "stalled-long-ago", "unusable line verdict.no-answer p0 p1"},
		{"uu", "+", "primary", "stalled", "usable own-box verdict.own-box-stalled"},
		{"uu", "+", "stopped", "stalled", "unknown own-box verdict.own-box-stalled"},
		{"dd", "-", "silent", "lan", "unknown own-lan verdict.own-lan"},
		{"dd", "-", "silent", "lan-back", "unknown own-lan verdict.own-lan"},
		{"dd", "+", "primary", "lan-back-long-ago", "unusable line verdict.no-answer p0 p1"},
		{"uu", "-", "stopped", "lan", "unknown own-lan verdict.own-lan"},
		{"uu", "+", "primary", "lan", "usable own-lan verdict.own-lan"},
	} {
		v := judge.Judge(evidence(t, c.paths, c.services, c.databases, c.flags))
		got := "unknown"
		if v.Usable {
			got = "usable"
		}
		if v.Unusable {
			got = "unusable"
		}
		got += " " + strings.Join(append([]string{v.Place.String(), v.Reason}, v.Args...), " ")
		if got != c.want || v.Usable && v.Unusable {
			t.Errorf("paths %q services %q databases %q %s\n got %s\nwant %s", c.paths, c.services, c.databases, c.flags, got, c.want)
		}
	}
}

func TestProbeCount(t *testing.T) {
	var c ProbeCount
	for _, ok := range []bool{true, true, false, false, false} {
		c.Add(ok)
	}
	if c != (ProbeCount{Fails: 3}) {
		t.Errorf("%+v", c)
	}
	c.Add(true)
	if c != (ProbeCount{OKs: 1}) {
		t.Errorf("%+v", c)
	}
}
