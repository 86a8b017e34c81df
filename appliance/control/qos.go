package control

// QoSPath answers a GET with QoS, role viewer.
const QoSPath = "/v1/qos"

// QoS is how lines are shared, and what has gone through since their queues were
// made.
type QoS struct {
	Problems []Reason  `json:"problems,omitempty"`
	Lines    []QoSLine `json:"lines"`
}

// QoSLine is one [[qos]].
type QoSLine struct {
	Interface string     `json:"interface"` // of the configuration
	Kind      string     `json:"kind"`      // "htb", "cake"
	BitPerS   uint64     `json:"bits_per_second"`
	Overhead  int        `json:"overhead_bytes"`    // added to each packet
	Missing   bool       `json:"missing,omitempty"` // the kernel has no such queues
	Total     QoSCount   `json:"total"`
	Queues    []QoSQueue `json:"queues"` // peers' shares, each before its classes; none: CAKE
}

// QoSQueue is a class of a peer, of no peer that has a share (Peer empty), or all
// of a peer's (Class empty).
type QoSQueue struct {
	Peer  string `json:"peer,omitempty"`
	Class string `json:"class,omitempty"`
	Min   uint64 `json:"min_bits_per_second"` // at this hour
	Max   uint64 `json:"max_bits_per_second"`
	Prio  uint8  `json:"prio"` // 0 first, 7 last
	QoSCount
}

// QoSCount is what has gone through.
type QoSCount struct {
	Bytes   uint64 `json:"bytes"` // with the overhead of encryption, without that of the line
	Packets uint64 `json:"packets"`
	Drops   uint64 `json:"drops"`
	Backlog uint64 `json:"backlog_bytes"` // wait now
}
