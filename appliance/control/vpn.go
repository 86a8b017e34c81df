package control

import "time"

// VPNPath answers a GET with VPN, role viewer.
const VPNPath = "/v1/vpn"

// VPN is what the agent and charon know of the tunnels.
type VPN struct {
	Charon   string   `json:"charon,omitempty"` // its version; empty: it doesn't answer
	Problems []Reason `json:"problems,omitempty"`
	Tunnels  []Tunnel `json:"tunnels"`
}

// Tunnel is one [[vpn]]. What is about a security association is empty while the
// tunnel is down, or charon doesn't answer.
type Tunnel struct {
	Name      string    `json:"name"`
	Interface string    `json:"interface"` // of the configuration, whose line it runs over
	Link      string    `json:"link"`      // kernel's name of the inside
	State     string    `json:"state"`     // "up", "trying", "down"
	Since     time.Time `json:"since,omitzero"`
	SinceS    float64   `json:"since_seconds"` // of up or not up; since the agent's start at most
	Initiate  bool      `json:"initiate"`      // this side begins
	Renewing  bool      `json:"renewing,omitempty"`
	Local     string    `json:"local"`
	Remote    string    `json:"remote"` // "any": whoever proves to be RemoteID
	LocalID   string    `json:"local_id"`
	RemoteID  string    `json:"remote_id"`
	PSK       bool      `json:"psk,omitempty"`
	NAT       bool      `json:"nat,omitempty"` // an address is translated on the way
	Encap     bool      `json:"encap,omitempty"`
	IKE       string    `json:"ike,omitempty"` // suites agreed upon
	ESP       string    `json:"esp,omitempty"`
	RekeyIKES float64   `json:"rekey_ike_seconds,omitempty"` // until keys are made anew
	RekeyESPS float64   `json:"rekey_esp_seconds,omitempty"`
	RxBytes   uint64    `json:"rx_bytes"` // with these keys
	TxBytes   uint64    `json:"tx_bytes"`
	RxPackets uint64    `json:"rx_packets"`
	TxPackets uint64    `json:"tx_packets"`
	Refused   *Reason   `json:"refused,omitempty"` // why the last attempt failed
}
