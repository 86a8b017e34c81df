package control

import (
	"time"

	"komainu/images/layout"
)

// Status is the answer to GET /v1/status, on the socket and over HTTPS. Fields
// ending in _s are seconds, in _ms milliseconds, lengths and positions in bytes.
type Status struct {
	Site           string      `json:"site"`
	Role           string      `json:"role"` // "town-hall", "dc-edge" or "dc-db"
	Time           time.Time   `json:"time"` // wall clock of the box when this was taken
	UptimeS        float64     `json:"uptime_s"`
	Verdict        Verdict     `json:"verdict"`
	Paths          []Path      `json:"paths"`
	Groups         []Group     `json:"groups"`
	Services       []Service   `json:"services"`
	Databases      []Database  `json:"databases"`
	Alarms         []Alarm     `json:"alarms"`
	Clock          *Clock      `json:"clock,omitempty"` // nil: no [ntp] in the configuration
	Box            *Box        `json:"box,omitempty"`   // nil: the machine doesn't run our image
	LastReturn     *Return     `json:"last_return,omitempty"`
	LastWriteOrder *WriteOrder `json:"last_write_order,omitempty"`
}

// GivenUp are the images that failed and that nothing has overcome yet: newer
// than the running one, or the running one itself. One that somebody took back
// is known and left out.
func (b *Box) GivenUp() []Image {
	var all []Image
	for _, i := range b.Images {
		newer := layout.Version(i.Version).Compare(layout.Version(b.Version)) > 0
		if i.State == "failed" && (i.Running || newer) && i.Reason.Code != "image-failed-order" {
			all = append(all, i)
		}
	}
	return all
}

// Reason is a code of appliance/say with its arguments.
type Reason struct {
	Code string   `json:"code"`
	Args []string `json:"args,omitempty"`
}

// Verdict says whether the data centre can be used and where the fault is.
type Verdict struct {
	Usable bool     `json:"usable"`
	Place  string   `json:"place"` // "none", "line", "dc-edge", "dc-service", "own-lan" or "own-box"
	Reason string   `json:"reason"`
	Args   []string `json:"args,omitempty"`
	SinceS float64  `json:"since_s"` // age of this verdict
}

// Path is one way to a peer.
type Path struct {
	Name      string  `json:"name"`
	Peer      string  `json:"peer"`
	State     string  `json:"state"` // RFC 5880: "admin-down", "down", "init" or "up"
	RTTMs     float64 `json:"rtt_ms"`
	JitterMs  float64 `json:"jitter_ms"`
	Loss      float64 `json:"loss"` // 0..1, of recent heartbeats
	SinceS    float64 `json:"since_s"`
	Interface string  `json:"interface"`
	Carrier   bool    `json:"carrier"`
	Carries   bool    `json:"carries"` // traffic takes this path now
	Refused   uint64  `json:"refused"` // heartbeats that were forged, damaged or of another source, since the agent's start
	Width     *Width  `json:"width,omitempty"`
}

// Width is what a path over a tunnel carries. Packets are counted in bytes, as
// they are inside the tunnel; 0: not known.
type Width struct {
	Out     int     `json:"mtu_out"`                 // found for our packets
	In      int     `json:"mtu_in"`                  // found by the peer for its own
	Used    int     `json:"mtu"`                     // the largest that routes allow
	Fixed   bool    `json:"fixed,omitempty"`         // by the configuration, not found
	BitPerS float64 `json:"capacity_bits,omitempty"` // measured by a few packets back to back
}

// Group is a set of services that move together.
type Group struct {
	Name          string    `json:"name"`
	Mode          string    `json:"mode"`           // "dc", "local-read", "local-write" or "returning"
	Step          string    `json:"step,omitempty"` // of a move under way; code
	Owner         string    `json:"owner"`          // who may write: "none", "dc" or "town-hall"
	Term          uint64    `json:"term"`
	Since         time.Time `json:"since"` // of Mode, wall clock
	Reason        string    `json:"reason"`
	Args          []string  `json:"args,omitempty"`
	Hold          bool      `json:"hold"`                     // an operator froze automatic moves
	Blocks        []Reason  `json:"blocks"`                   // what keeps the group from returning
	Advice        Reason    `json:"advice"`                   // what the operator can do; empty: nothing
	HoldDownLeftS float64   `json:"hold_down_left_s"`         // stability still to show before a move back
	Flaps         int       `json:"flaps"`                    // recent moves that count for damping
	Switches      uint64    `json:"switches"`                 // moves since the agent's start
	LastSwitchMs  float64   `json:"last_switch_ms,omitempty"` // decision to proof, of the last move
	Voucher       string    `json:"voucher,omitempty"`        // who vouched that the data centre is dead
	DualWriteMs   float64   `json:"dual_write_ms,omitempty"`  // window in which both sides may have acknowledged writes
	ReadAgeS      float64   `json:"read_age_s"`               // age of what local reads see; 0 in dc
	Loss          string    `json:"loss"`                     // a promotion now would lose: "none", "unknown", or a length such as "12 kB"
}

// Service is a stable address.
type Service struct {
	Name     string `json:"name"`
	Group    string `json:"group"`
	Stable   string `json:"stable"`   // address and port that clients use
	Target   string `json:"target"`   // "none", "dc", "local" or "parked"
	Endpoint string `json:"endpoint"` // where Target leads; empty for none and parked
	Probe    Probe  `json:"probe"`
}

// Probe is the last question to a service's data-centre endpoint.
type Probe struct {
	OK     bool    `json:"ok"`
	LastMs float64 `json:"last_ms"` // how long the answer took
	Fails  int     `json:"fails"`   // in a row
	Error  string  `json:"error,omitempty"`
}

// Database is the cluster on this box.
type Database struct {
	Name         string   `json:"name"`
	Group        string   `json:"group"`
	Role         string   `json:"role"` // of failover/standby: "unknown", "absent"... "hung"
	Reason       string   `json:"reason,omitempty"`
	Timeline     uint32   `json:"timeline"`
	Flush        string   `json:"flush"`  // log position, PostgreSQL's form
	Replay       string   `json:"replay"` // likewise
	LagBytes     uint64   `json:"lag_bytes"`
	LagS         float64  `json:"lag_s"`
	Ready        bool     `json:"ready"` // would serve reads if the primary vanished now
	ReadyReasons []Reason `json:"ready_reasons"`
	RestartReady bool     `json:"restart_ready"` // would also serve them after a restart of its own
	Sessions     int      `json:"sessions"`
	CopyPercent  int      `json:"copy_percent"` // of a copy or rewind under way; 100 otherwise
	Orphans      int      `json:"orphans"`      // commits of the data centre to set aside; -1: not listed
	Remote       Remote   `json:"remote"`
}

// Remote is what the other side says of its cluster of the same database.
type Remote struct {
	Role  string  `json:"role"`
	Term  uint64  `json:"term"`
	Open  bool    `json:"open"` // clients are let in there
	Phase string  `json:"phase,omitempty"`
	AgeS  float64 `json:"age_s"` // of this report; negative: never heard
	Flush string  `json:"flush"`
}

// Alarm is something that somebody must know now.
type Alarm struct {
	ID       string  `json:"id"` // code
	Subject  string  `json:"subject"`
	Severity string  `json:"severity"` // "warning" or "critical"
	SinceS   float64 `json:"since_s"`
}

// Return has the figures of the last return to the data centre.
type Return struct {
	At                  time.Time `json:"at"`
	Group               string    `json:"group"`
	TotalMs             float64   `json:"total_ms"`       // from the order to the lock of the local side
	ParkedMs            float64   `json:"parked_ms"`      // how long new connections waited
	SessionsEnded       int       `json:"sessions_ended"` // idle ones, with 57P01
	TransactionsAborted int       `json:"transactions_aborted"`
	Orphans             int       `json:"orphans"`
}

// WriteOrder has the figures of the last write order.
type WriteOrder struct {
	At      time.Time `json:"at"`
	Group   string    `json:"group"`
	By      string    `json:"by"`
	Reason  string    `json:"reason"`
	FenceMs float64   `json:"fence_ms"` // until the data centre confirmed its fence; 0 when vouched for
	TotalMs float64   `json:"total_ms"` // from the order to the first possible write
}
