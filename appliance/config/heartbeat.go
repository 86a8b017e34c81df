package config

import "time"

// HeartbeatPort is the default UDP port of heartbeats, unassigned at IANA. It
// isn't BFD's 4784, since the format is our own.
const HeartbeatPort = 4795

// Heartbeat is [heartbeat]: how paths are watched.
type Heartbeat struct {
	Interval   time.Duration // between two messages, before jitter
	Multiplier uint8         // intervals of silence after which a path is down
	Key        string        // "secret:NAME", shared with peers that have none of their own
	Port       uint16        // UDP, here and there
}

func (r *reader) heartbeat(root *table) Heartbeat {
	t := r.child(root, "heartbeat", true)
	if t == nil {
		return Heartbeat{}
	}
	defer r.done(t)
	h := Heartbeat{Interval: 100 * time.Millisecond, Multiplier: 5}
	if r.word(t, "profile", []string{"default", "fast"}) == "fast" {
		h.Interval = 40 * time.Millisecond
	}
	if v := t.vals["profile"]; v != nil && (t.vals["interval"] != nil || t.vals["multiplier"] != nil) {
		r.bad(v.key, "config-profile-twice")
	}
	h.Interval = r.duration(t, "interval", h.Interval, 10*time.Millisecond, 10*time.Second)
	h.Multiplier = uint8(r.number(t, "multiplier", int64(h.Multiplier), 2, 50))
	h.Key = r.secret(t, "key", true)
	h.Port = uint16(r.number(t, "port", HeartbeatPort, 1, 65535))
	return h
}
