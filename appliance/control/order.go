package control

// Order is the body of POST /v1/orders, which answers when the order is done
// or refused: an OrderResult, or an Error. The peer's credentials, not the
// body, say who ordered.
type Order struct {
	Verb   string `json:"verb"`             // one of the Verbs
	Group  string `json:"group,omitempty"`  // empty only for VerbAcceptOrphans on a box with one group
	To     string `json:"to,omitempty"`     // VerbSwitch: "local" or "dc"
	Reason string `json:"reason,omitempty"` // free text, required for VerbWrite; stands in the record
	Vouch  bool   `json:"vouch,omitempty"`  // VerbWrite: the operator vouches that an unreachable data centre is dead
	Count  int    `json:"count,omitempty"`  // VerbAcceptOrphans: the number that the list has
}

// Verbs of an Order.
const (
	VerbSwitch        = "switch"
	VerbWrite         = "write"
	VerbHold          = "hold"
	VerbRelease       = "release"
	VerbAcceptOrphans = "accept-orphans"
)

// OrderResult is the good end of an order.
type OrderResult struct {
	Code string   `json:"code"`           // row of appliance/say: what was reached
	Args []string `json:"args,omitempty"` // of Code
	Mode string   `json:"mode,omitempty"` // of the group, afterwards
	Ms   float64  `json:"ms,omitempty"`   // from acceptance to the end, milliseconds
}
