package control

// KeysPath is answered on RUN/agent.sock: a POST without content, role admin, has
// the tunnels take their secrets anew, and is answered with KeysTaken. A tunnel
// whose keys are others is made anew beside the old one. One secret that can't be used is an *Error with code
// "vpn-keys-unusable", and nothing is changed.
const KeysPath = "/v1/vpn/reload"

// KeysTaken says what was read.
type KeysTaken struct {
	Certificates int `json:"certificates"` // and lists of revoked ones
}
