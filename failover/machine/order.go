package machine

import "komainu/failover/standby"

// OrderKind is what an operator, or the other side, asks of a group.
type OrderKind string

// The orders. The first six come from operators, the rest travel from the
// town hall to a database host.
const (
	SwitchLocal   OrderKind = "switch-local"
	SwitchDC      OrderKind = "switch-dc"
	Write         OrderKind = "write"
	Hold          OrderKind = "hold"
	Release       OrderKind = "release"
	AcceptOrphans OrderKind = "accept-orphans" // travels on to the database host
	Open          OrderKind = "open"           // at the database host: the operator vouches that the town hall holds no higher term
	Fence         OrderKind = "fence"
	Rejoin        OrderKind = "rejoin"
	Promote       OrderKind = "promote"
)

// Order is one request; idempotent by ID.
type Order struct {
	ID       string      `json:"id"`
	Kind     OrderKind   `json:"kind"`
	Group    string      `json:"group"`              // "site/group"
	Database string      `json:"database,omitempty"` // orders to a database host
	Term     uint64      `json:"term,omitempty"`     // orders to a database host
	LSN      standby.LSN `json:"lsn,omitempty"`      // Rejoin: where the town hall left the DC's history; Promote: what must have been replayed
	Count    int32       `json:"count,omitempty"`    // AcceptOrphans
	By       string      `json:"by,omitempty"`
	Reason   string      `json:"reason,omitempty"`
	Clients  string      `json:"clients,omitempty"` // Rejoin: "host:port" where the town hall's server can be reached
}

// Reply answers an Order. A refusal changed nothing.
type Reply struct {
	ID   string   `json:"id"`
	OK   bool     `json:"ok"`
	Code string   `json:"code"` // of appliance/say
	Args []string `json:"args,omitempty"`
}

// Voucher is an operator's word that the other side is dead, made durable
// before anything is done on the strength of it.
type Voucher struct {
	Term   uint64 `json:"term"`
	By     string `json:"by"`
	Reason string `json:"reason"`
	Wall   int64  `json:"wall"` // Unix ns
}
