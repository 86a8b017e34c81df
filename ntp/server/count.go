package server

// Outcome is what became of a request. Each request has exactly one.
type Outcome uint8

// Outcomes. The first three are time served, the next three are answers without
// service, the rest were dropped in silence.
const (
	Plain      Outcome = iota // served, without authentication
	Keyed                     // served, with a symmetric key
	NTSServed                 // served, with NTS
	KissRate                  // too many requests; told so by a kiss
	CryptoNAK                 // unknown, refused or wrong key; told so (RFC 5905 section 7.3)
	NTSNAK                    // cookie unknown or wrong; told so (RFC 8915 section 5.7)
	Refused                   // not from a served network
	Limited                   // too many requests
	Malformed                 // no NTP message by its lengths
	BadVersion                // neither NTPv3 nor NTPv4
	BadMode                   // no request that we answer (modes 0, 2, 4, 5, 6, 7)
	BadNTS                    // against the letter of RFC 8915
	outcomes
)

// Outcomes is how many Outcome values there are.
const Outcomes = int(outcomes)

var outcomeNames = [outcomes]string{
	"plain", "key", "nts", "kiss-rate", "crypto-nak", "nts-nak",
	"refused-network", "rate-limited", "malformed", "version", "mode", "nts-malformed",
}

// String is the outcome as a metric's label.
func (o Outcome) String() string {
	if int(o) >= len(outcomeNames) {
		return "unknown"
	}
	return outcomeNames[o]
}

// Counters are what a Server counted since it was made.
type Counters struct {
	V4, V6      [Outcomes]uint64 // requests by Outcome
	Interleaved uint64           // of the Plain, those in interleaved mode
	Clients     uint64           // in the table now
	Evicted     uint64           // clients that another took the place of
}

// Add adds the counters of another worker's Server.
func (c *Counters) Add(o Counters) {
	for i := range c.V4 {
		c.V4[i] += o.V4[i]
		c.V6[i] += o.V6[i]
	}
	c.Interleaved += o.Interleaved
	c.Clients += o.Clients
	c.Evicted += o.Evicted
}
