package timer

import (
	"time"

	"komainu/ntp/leap"
	"komainu/ntp/server"
	"komainu/ntp/source"
	"komainu/ntp/wall"
)

// View is what people and monitoring are shown of the timer.
type View struct {
	Mode       Mode
	Since      time.Duration // in Mode
	State      server.State  // what clients are told
	Offset     time.Duration // how far our clock must go forward
	Panic      time.Duration // the offset that isn't corrected, or for hours to come; 0: none
	Doubt      time.Duration // what a majority says that our clock excludes; 0: none
	Frequency  float64       // correction, 1e-6
	RateSigma  float64       // of what is known of the oscillator, 1e-6; negative: nothing
	Bound      time.Duration // of the clock's error; negative: not known
	Age        time.Duration // since the last agreement; negative: never
	LimitIn    time.Duration // of a holdover: until Bound or Max is reached; negative: past
	Learned    time.Duration // history of the oscillator
	SavedAge   time.Duration
	LeapAt     wall.Time // of the leap second that is coming; 0: none
	LeapBy     int       // +1 or -1
	Table      leap.Table
	Best       int // ID of the followed source, 0: none
	Sources    []SourceView
	Unresolved []int // upstreams
}

// SourceView is one server.
type SourceView struct {
	Server
	Name          string
	State         source.State
	Combined      bool
	False         bool
	Reach         uint8
	Poll          time.Duration
	Age           time.Duration // of the last reply; negative: never
	Offset        time.Duration // of our clock from this source, filtered
	Jitter        time.Duration
	Delay         time.Duration
	Distance      time.Duration
	Last          source.Reply
	Code, Detail  string
	Queries, Good uint64
}

// View is the state at r, which isn't before the last Step.
func (t *Timer) View(r wall.Reading) View {
	v := View{
		Mode: t.mode, Since: r.Boot.Sub(t.modeAt), State: t.state, Panic: t.panics, Frequency: t.sent.Frequency,
		RateSigma: -1, Bound: -1, Age: -1, Learned: t.history.Learned(), SavedAge: r.Boot.Sub(t.savedAt),
		LeapAt: t.leaping.at, LeapBy: t.leaping.seconds, Table: t.table,
	}
	if v.Panic == 0 && t.mode == Unsynchronised && t.far() {
		v.Panic = t.offset()
	}
	if t.doubt.since != 0 {
		v.Doubt = t.doubt.by
	}
	if t.truth.known {
		v.Age = r.Boot.Sub(t.truth.at)
		v.Offset = t.truth.TimeAt(r.Raw).Sub(r.Wall)
		v.Bound = t.bound(v.Age) + v.Offset.Abs()
		v.RateSigma = sqrt(t.truth.RateVar) * 1e6
		v.Best = t.truth.best
		v.LimitIn = t.limitAt() - v.Age
	}
	for i, u := range t.upstreams {
		if u.unresolved {
			v.Unresolved = append(v.Unresolved, i)
		}
	}
	for _, p := range t.peers {
		s := SourceView{Server: p.Server, Name: p.name, State: p.state, Combined: t.truth.weights[p.ID] > 0, False: t.alarms.has("time-falseticker", p.name),
			Reach: p.Reach, Poll: p.Poll(), Age: -1, Last: p.Last, Code: p.Code, Detail: p.Detail, Queries: p.Queries, Good: p.Replies}
		if p.Filter.Samples() > 0 {
			e := p.Filter.Estimate()
			s.Age = r.Boot.Sub(p.Last.At.Boot)
			s.Offset = e.TimeAt(r.Raw).Sub(r.Wall)
			s.Jitter, s.Delay = seconds(p.Filter.Jitter()), seconds(p.Filter.MinDelay())
			s.Distance = seconds(p.Distance(r.Raw))
		}
		v.Sources = append(v.Sources, s)
	}
	return v
}
