package console

import (
	"fmt"
	"strings"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

// lastRuns are the words for control.Reset.Kind.
var lastRuns = map[string]string{
	"first":    "serial-last-first",
	"order":    "serial-last-order",
	"panic":    "serial-last-panic",
	"power":    "serial-last-power",
	"trial":    "serial-last-trial",
	"watchdog": "serial-last-watchdog",
}

// Banner is what a person sees before the login: which box this is, what is
// wrong with it first, a new image on trial, how the run before ended. box is
// nil when PID 1 didn't answer.
func Banner(lang, site string, box *control.Box) string {
	say := func(code string, args ...string) string { return say.Text(lang, code, args...) }
	reasons := func(all []control.Reason) string {
		var s []string
		for _, r := range all {
			s = append(s, say(r.Code, r.Args...))
		}
		return (&page{lang: lang}).list(s...)
	}
	var s sheet
	if box == nil {
		s.add("Komainu "+site, "")
		s.add("  !", say("serial-no-box"))
		return s.text()
	}
	s.add(strings.TrimSpace(fmt.Sprint("Komainu ", site, " ", box.Version)), "")
	if model := strings.TrimSpace(box.Model + " " + box.Serial); model != "" {
		s.add("  "+model, "")
	}
	if box.Rescue {
		s.add("  !", say("serial-rescue"))
	}
	for _, f := range box.Faults {
		s.add("  !", say(f.Code, f.Args...))
	}
	if box.Trial != nil {
		s.add("  !", say("serial-trial", span(lang, box.Trial.LeftS), reasons(box.Trial.Waiting)))
	}
	if code := lastRuns[box.Last.Kind]; code != "" {
		s.add("  -", say(code, reasons([]control.Reason{box.Last.Reason})))
	}
	return s.text()
}

// AlarmLine is an alarm that was raised or cleared, as one line.
func AlarmLine(lang string, a control.Alarm, raised bool) string {
	code := "alarm-raised"
	if !raised {
		code = "alarm-cleared"
	}
	return "! " + say.Note(lang, a.Subject, code, []string{a.ID, a.Severity})
}
