package agent

import (
	"reflect"
	"time"

	"komainu/netstack/qos"
	"komainu/ntp/instant"
)

// sharing is the part that keeps the lines shared as configured, by the hour of
// the week.
type sharing struct {
	minute  int64      // of the wall clock, for which trees stand
	spec    qos.Plan   // that trees were made of
	edition uint64     // of the ground that spec is of
	trees   []qos.Tree // wanted
	asked   bool
	busy    bool
	due     instant.Instant // when the kernel is looked at again
	fails   int             // in a row
	code    string          // of the last failure; empty: none
	args    []string
}

// Times of sharing.
const (
	queuesWithin = 20 * time.Second
	queuesAgain  = 20 * time.Second // how often the kernel's queues are compared
)

// step issues what is to be done, if anything.
func (s *sharing) step(a *Agent) {
	plan := a.ground.spec.Sharing
	if s.busy || a.ground.busy || a.spec.Role == DCDB { // an ordinary server's are its own
		return
	}
	if minute := a.wallNow() / int64(time.Minute); minute != s.minute || s.edition != a.ground.edition || !s.asked {
		s.minute, s.edition = minute, a.ground.edition
		trees := plan.Trees(a.ground.spec.Calendar.At(time.Unix(0, a.wallNow())))
		if !s.asked || !reflect.DeepEqual(trees, s.trees) || !reflect.DeepEqual(plan, s.spec) {
			s.due = 0
		}
		s.spec, s.trees = plan, trees
	}
	nothing := len(s.trees) == 0 && len(plan.Classes) == 0
	if s.asked && (a.now < s.due || nothing && s.fails == 0 && s.due != 0) {
		return // where nothing is shared, what was there before goes once
	}
	known := s.asked && s.fails == 0 && s.due != 0
	s.asked = true
	s.due = a.now.Add(queuesAgain)
	s.busy = a.issue("queues", 0, queuesWithin, SetQueues{Trees: s.trees, Sorting: plan.Sorting()}, func(d Done) {
		s.busy = false
		s.code, s.args = d.Code, d.Args
		if d.Outcome != OK {
			s.fails++
			s.due = a.now.Add(min(queuesAgain, time.Second<<min(s.fails, 5)))
			return
		}
		s.fails = 0
		if changes, _ := d.Value.(int); known && changes > 0 {
			a.note(a.spec.Site, "queues-corrected", 0, itoa(changes))
		}
	})
}

// drift has the kernel's queues looked at soon: a link may be another one.
func (s *sharing) drift(now instant.Instant) {
	if s.asked {
		s.due = min(s.due, now.Add(time.Second))
	}
}

func (s *sharing) watch(a *Agent, now map[alarmKey]Severity) {
	if s.fails > 1 {
		now[alarmKey{"queues-failed", a.spec.Site}] = Warning
	}
	if a.ground.spec.NoHolidays != "" {
		now[alarmKey{"holidays-missing", a.spec.Site}] = Warning
	}
}

// LinesView is how the lines are shared now.
type LinesView struct {
	Plan  qos.Plan
	Trees []qos.Tree // wanted at this hour, one for each of the plan's lines
	Code  string     // why the kernel didn't take them; empty: it did
	Args  []string
}

func (s *sharing) view() LinesView {
	return LinesView{Plan: s.spec, Trees: s.trees, Code: s.code, Args: s.args}
}
