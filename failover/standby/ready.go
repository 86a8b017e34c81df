package standby

// Reasons by which something is decided. The others are words only.
const (
	ReasonNotConsistent = "postgres-not-consistent" // running in recovery, and doesn't open: it lacks something that only its primary can tell
	ReasonCopying       = "postgres-copying"        // a base copy that didn't come to its end
)

// Readiness answers the rehearsed question: would this standby serve reads if
// the primary vanished now, and again after its own restart?
type Readiness struct {
	Reads   bool   // it answers reads now
	Promote bool   // it could be promoted: also a standby that never reached consistency can
	Reason  string // code of appliance/say when Reads is false
	// Warning is the code of what would keep it from reading after a restart
	// without the primary; reads now are not affected.
	Warning string
}

// Ready judges one observation of a hosted standby.
func Ready(o Observation) Readiness {
	switch o.Role {
	case Standby:
		r := Readiness{Reads: true, Promote: true}
		if o.ReplayPaused {
			r.Warning = "standby-replay-paused"
		} else if !o.RestartReady {
			r.Warning = "standby-restart-not-ready"
		}
		return r
	case Primary:
		return Readiness{Reads: true, Promote: true}
	case Starting:
		return Readiness{Promote: o.Reason == ReasonNotConsistent, Reason: or(o.Reason, "standby-starting")}
	case Hung:
		return Readiness{Reason: or(o.Reason, "standby-hung")}
	case Absent:
		return Readiness{Reason: "standby-absent"}
	case Unusable:
		return Readiness{Reason: or(o.Reason, "standby-unusable")}
	case Stopped:
		return Readiness{Reason: "standby-stopped"}
	case Unknown:
	}
	return Readiness{Reason: "standby-unknown"}
}

func or(code, otherwise string) string {
	if code != "" {
		return code
	}
	return otherwise
}
