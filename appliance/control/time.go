package control

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// What the time daemon answers on its own socket, RUN/timed.sock.
const (
	TimePath        = "/v1/time"         // GET: TimeStatus
	TimeClientsPath = "/v1/time/clients" // GET, ?n=20: TimeClients
	TimeStepPath    = "/v1/time/step"    // POST TimeStep, role operator: Reply
)

// TimeStatus is the whole state of the time daemon. Fields ending in _s are
// seconds, in _ppm parts per million. A negative age means: never. Offsets are
// positive when our clock must go forward.
type TimeStatus struct {
	Site    string    `json:"site"`
	Time    time.Time `json:"time"` // wall clock of the box when this was taken
	UptimeS float64   `json:"uptime_s"`

	// State is "starting" (too few answers yet), "synchronised", "holdover" (no
	// source, the clock still counts as right), "orphan" (no source, served at
	// the orphan stratum), "unsynchronised" (clients are told so: leap 3,
	// stratum 16) or "panic" (the offset is beyond what is corrected without
	// an order).
	State   string   `json:"state"`
	SinceS  float64  `json:"since_s"` // how long State has been so
	Reasons []Reason `json:"reasons"` // why it isn't "synchronised"; see Explain
	Advice  Reason   `json:"advice"`  // what the operator can do; empty: nothing

	Leap            int       `json:"leap"`                // RFC 5905: 0 none, 1 the last minute has 61 s, 2 it has 59 s, 3 not synchronised
	Stratum         int       `json:"stratum"`             // 1..15; 16 not synchronised
	RefID           string    `json:"ref_id"`              // see RefID
	Source          string    `json:"source,omitempty"`    // name of the followed source
	OffsetS         float64   `json:"offset_s"`            // estimated error of the clock, still to be slewed; in "panic" the one that isn't corrected
	FrequencyPPM    float64   `json:"frequency_ppm"`       // correction that the kernel applies
	FrequencyErrPPM float64   `json:"frequency_error_ppm"` // negative: nothing is known
	RootDelayS      float64   `json:"root_delay_s"`        // round trip to the primary reference
	RootDispersionS float64   `json:"root_dispersion_s"`   // now
	BoundS          float64   `json:"bound_s"`             // root distance: true time is no farther from our clock; negative: not known
	CorrectedAgoS   float64   `json:"corrected_ago_s"`     // age of the last correction
	Holdover        *Holdover `json:"holdover,omitempty"`

	Virtual    string         `json:"virtual,omitempty"` // the hypervisor, where this is no physical machine (TIM-4)
	NoClock    bool           `json:"no_clock"`          // observes and serves only, adjusts nothing
	LeapTable  TimeLeap       `json:"leap_table"`
	Drift      TimeDrift      `json:"drift"`
	MinSources int            `json:"min_sources"` // that must agree before the clock follows
	Sources    []TimeSource   `json:"sources"`
	Server     TimeServer     `json:"server"`
	NTS        *TimeNTSServer `json:"nts,omitempty"` // nil: not configured
	Alarms     []Alarm        `json:"alarms"`
}

// Holdover is a clock that runs on what was learned of its oscillator.
type Holdover struct {
	ForS    float64   `json:"for_s"`             // since the last source was lost
	BoundS  float64   `json:"bound_s"`           // root distance now, as TimeStatus.BoundS
	LimitS  float64   `json:"limit_s"`           // beyond this bound it is a last resort, at the holdover stratum
	MaxS    float64   `json:"max_s"`             // after this time it ends
	LimitAt time.Time `json:"limit_at,omitzero"` // when one of the two will be reached
}

// TimeLeap is what is known of leap seconds.
type TimeLeap struct {
	File    string    `json:"file,omitempty"`   // the list that was read; empty: sources only
	Expires time.Time `json:"expires,omitzero"` // of the list
	TAI     int       `json:"tai,omitempty"`    // TAI − UTC now, seconds; 0: not known
	Pending int       `json:"pending"`          // +1 inserted, -1 deleted, at At; 0 none
	At      time.Time `json:"at,omitzero"`
}

// TimeDrift is what was learned of the oscillator.
type TimeDrift struct {
	FrequencyPPM float64 `json:"frequency_ppm"`
	ErrorPPM     float64 `json:"error_ppm"` // one standard deviation
	LearnedS     float64 `json:"learned_s"` // over how long
	SavedAgoS    float64 `json:"saved_ago_s"`
}

// TimeSource is one server that is asked.
type TimeSource struct {
	Name     string `json:"name"`              // as configured; of a pool, the same for several
	Address  string `json:"address,omitempty"` // with port; empty while unresolved
	Upstream int    `json:"upstream"`          // line of the configuration, from 0
	// State is "followed", "combined", "usable" (agrees, not needed),
	// "falseticker" (disagrees with the majority), "distant" (its root distance
	// is too large), "unusable" (says itself that it isn't synchronised, follows
	// us, ...: see Reason), "silent" or "unresolved".
	State         string  `json:"state"`
	Reason        Reason  `json:"reason"`      // why it isn't usable; empty if it is
	Reach         uint8   `json:"reach"`       // last eight queries, the newest in bit 0; shown in octal
	PollS         float64 `json:"poll_s"`      // pause between queries
	LastAgeS      float64 `json:"last_age_s"`  // of the last usable reply
	OffsetS       float64 `json:"offset_s"`    // of our clock from this source, filtered
	JitterS       float64 `json:"jitter_s"`    // root mean square
	DelayS        float64 `json:"delay_s"`     // round trip
	RootDistanceS float64 `json:"root_dist_s"` // to true time through this source
	Stratum       int     `json:"stratum"`     // 0: never heard
	RefID         string  `json:"ref_id"`      // what it follows itself; see RefID
	Leap          int     `json:"leap"`        // as TimeStatus.Leap
	Auth          string  `json:"auth"`        // "none", "key" or "nts"
	AuthOK        bool    `json:"auth_ok"`     // the last reply was authenticated
	Queries       uint64  `json:"queries"`     // since the start
	Replies       uint64  `json:"replies"`     // usable ones
	Prefer        bool    `json:"prefer"`      // configured
	NTSCookies    int     `json:"nts_cookies"` // left, of "nts"
}

// TimeServer is the server's side; counts are since the start.
type TimeServer struct {
	Listen   []string          `json:"listen"`   // addresses with port; none: serves nobody
	Requests map[string]uint64 `json:"requests"` // answered, by kind: "plain", "interleaved", "key", "nts"
	Drops    map[string]uint64 `json:"drops"`    // not answered, or with a kiss, by reason: such as "refused", "limited", "malformed", "bad-mode"; server.Outcome names most
	Stamps   string            `json:"stamps"`   // where receive times come from: "kernel" or "hardware"
	Clients  int               `json:"clients"`  // remembered
}

// TimeNTSServer is the NTS side of the server (RFC 8915).
type TimeNTSServer struct {
	Listen      []string          `json:"listen"`
	KE          map[string]uint64 `json:"ke"`         // key exchanges by outcome: "done", "refused", "timeout", "tls", ...
	KeyAgeS     float64           `json:"key_age_s"`  // of the cookie key in use
	Keys        int               `json:"keys"`       // cookie keys that are still accepted
	Certificate time.Time         `json:"cert_until"` // when the certificate expires
}

// TimeClients are the clients that ask most, the busiest first.
type TimeClients struct {
	Time    time.Time    `json:"time"`
	Total   int          `json:"total"` // remembered
	Clients []TimeClient `json:"clients"`
}

// TimeClient is one client of the server.
type TimeClient struct {
	Address     string  `json:"address"`
	Requests    uint64  `json:"requests"`
	Drops       uint64  `json:"drops"`
	LastAgeS    float64 `json:"last_age_s"`
	IntervalS   float64 `json:"interval_s"` // mean pause between requests, recently
	Interleaved bool    `json:"interleaved"`
	Auth        string  `json:"auth"` // "none", "key" or "nts"
}

// TimeStep orders to correct the clock's offset in one step, whatever it is.
type TimeStep struct {
	ID     string `json:"id"`
	By     string `json:"by"` // what the person says of itself
	Reason string `json:"reason"`
}

// TimeQuery is what `komainu timed --query HOST` found out about a server.
type TimeQuery struct {
	Host            string  `json:"host"`
	Address         string  `json:"address,omitempty"` // with port; empty: not resolved
	Failed          Reason  `json:"failed"`            // row of an "ntp-..." silence; empty: it answered
	OffsetS         float64 `json:"offset_s"`          // of our clock from the server's
	DelayS          float64 `json:"delay_s"`
	Stratum         int     `json:"stratum"`
	RefID           string  `json:"ref_id"`
	Leap            int     `json:"leap"`
	RootDelayS      float64 `json:"root_delay_s"`
	RootDispersionS float64 `json:"root_dispersion_s"`
	RootDistanceS   float64 `json:"root_dist_s"` // to true time through this server, by this one answer
	Auth            string  `json:"auth"`        // what was asked for: "none", "key" or "nts"
	AuthOK          bool    `json:"auth_ok"`     // the answer was authenticated
	Queries         int     `json:"queries"`     // sent
	Replies         int     `json:"replies"`     // came
}

// Clock is the time daemon's state in short, inside Status.
type Clock struct {
	Reachable bool      `json:"reachable"` // false: the time daemon doesn't answer, the rest says nothing
	State     string    `json:"state"`     // of TimeStatus
	SinceS    float64   `json:"since_s"`
	Stratum   int       `json:"stratum"`
	OffsetS   float64   `json:"offset_s"`
	BoundS    float64   `json:"bound_s"` // negative: not known
	Reference string    `json:"reference,omitempty"`
	Holdover  *Holdover `json:"holdover,omitempty"`
	Reasons   []Reason  `json:"reasons"`
	Advice    Reason    `json:"advice"`
}

// Clock sums t up; nil: the time daemon doesn't answer.
func (t *TimeStatus) Clock() *Clock {
	if t == nil {
		return &Clock{BoundS: -1, Reasons: []Reason{}}
	}
	c := &Clock{Reachable: true, State: t.State, SinceS: t.SinceS, Stratum: t.Stratum, OffsetS: t.OffsetS, BoundS: t.BoundS,
		Reference: t.Source, Holdover: t.Holdover, Reasons: t.Reasons, Advice: t.Advice}
	if c.Reference == "" {
		c.Reference = t.RefID
	}
	return c
}

// Explain fills in Reasons, the weightiest first, and Advice from all else that
// is in t.
func (t *TimeStatus) Explain() {
	t.Reasons, t.Advice = []Reason{}, Reason{}
	if t.State == "synchronised" {
		return
	}
	because := func(code string, args ...string) { t.Reasons = append(t.Reasons, Reason{code, args}) }
	names := map[string][]string{}
	for _, s := range t.Sources {
		names[s.State] = append(names[s.State], s.Name)
	}
	good, lying := len(names["followed"])+len(names["combined"])+len(names["usable"]), names["falseticker"]
	split := len(lying) > 0 && good == 0
	if t.State == "panic" {
		because("time-why-panic", fmt.Sprintf("%+.3f", t.OffsetS))
	}
	switch {
	case len(t.Sources) == 0:
		because("time-why-no-upstream")
	case split:
		because("time-why-no-majority", some(lying)...)
	case len(lying) > 0:
		because("time-why-falseticker", some(lying)...)
	}
	for _, x := range [][2]string{{"silent", "time-why-silent"}, {"unresolved", "time-why-unresolved"}, {"distant", "time-why-distant"}} {
		if all := names[x[0]]; len(all) > 0 {
			because(x[1], some(all)...)
		}
	}
	unusable := 0
	for _, s := range t.Sources {
		if s.State == "unusable" && unusable < 2 { // the list of sources has them all
			unusable++
			because("time-why-unusable", append([]string{s.Name, s.Reason.Code}, s.Reason.Args...)...)
		}
	}
	doubt := slices.ContainsFunc(t.Alarms, func(a Alarm) bool { return a.ID == "time-doubt" })
	if doubt {
		because("time-doubt")
	}
	if good > 0 && good < t.MinSources {
		because("time-why-few", fmt.Sprint(good), fmt.Sprint(t.MinSources))
	}
	switch {
	case t.State == "panic" || doubt:
		t.Advice = Reason{Code: "advice-time-panic"}
	case t.State == "starting" && t.SinceS < 60: // answers take a few seconds
		t.Advice = Reason{Code: "advice-time-start"}
	case len(t.Sources) == 0:
	case split:
		t.Advice = Reason{"advice-time-majority", lying[:1]}
	case good > 0:
		t.Advice = Reason{Code: "advice-time-few"}
	default:
		t.Advice = Reason{"advice-time-silent", []string{t.Sources[0].Name}}
	}
}

// some are the first few of names, so that a sentence stays one; those of a
// pool have one name.
func some(names []string) []string {
	names = slices.Compact(slices.Clone(names))
	if len(names) > 4 {
		return append(names[:4:4], fmt.Sprintf("... (%d)", len(names)))
	}
	return names
}

// RefID is a reference ID as people write it (RFC 5905 figure 12): the letters
// of a primary reference or kiss at stratum 0, 1 and 16, else the upstream's
// IPv4 address, which for one of IPv6 only looks so; "" for 0.
func RefID(id uint32, stratum uint8) string {
	b := binary.BigEndian.AppendUint32(nil, id)
	if id == 0 {
		return ""
	}
	if s := strings.TrimRight(string(b), "\x00"); stratum <= 1 || stratum >= 16 {
		if strings.ContainsFunc(s, func(c rune) bool { return c < '!' || c > '~' }) {
			return fmt.Sprintf("%08X", id)
		}
		return s
	}
	return netip.AddrFrom4([4]byte(b)).String()
}
